// The threshold: dragged on the histogram, by its slider or in a field; what it would have done is read at once. Saving keeps
// what was typed, whatever becomes of the page meanwhile.
"use strict";

(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  function dragging() {
    const table = one("[data-what]"), drag = one("[data-drag]"), histogram = one("[data-histogram]");
    if (!table) return;
    const numbers = (name) => table.dataset[name].split(" ").filter(Boolean).map(Number);
    const [last, good, defects, bounds, promised] = ["last", "good", "defects", "bounds", "promised"].map(numbers);
    const from = (scores, value) => scores.filter((score) => score >= value).length;
    const percent = (share) => (share === undefined ? "-" : `${(100 * share).toFixed(1)} %`);
    const fields = all("[data-threshold]");
    const calibrated = (value) => {
      let found;
      for (let at = 0; at < promised.length; at += 2) if (promised[at] <= value) found = promised[at + 1];
      return found;
    };
    const show = (value, typed) => {
      const rejected = from(good, value);
      const told = {
        threshold: value.toFixed(3), yaml: value.toFixed(3), last: from(last, value), good: rejected, defects: from(defects, value),
        promised: percent(bounds[rejected]), calibrated: percent(calibrated(value)),
      };
      for (const place of all("[data-asked]")) place.textContent = told[place.dataset.asked];
      for (const end of ["x1", "x2"]) one("[data-line]").setAttribute(end, 1000 * value);
      for (const field of fields) if (field !== typed) field.value = value.toFixed(3);
      if (drag !== typed) drag.value = value;
      const address = new URL(location.href);  // so that loading it again keeps what was dragged
      address.searchParams.set("threshold", value.toFixed(3));
      address.searchParams.delete("saved");
      history.replaceState(null, "", address);
    };
    drag.hidden = false;
    drag.addEventListener("input", () => show(Number(drag.value), drag));
    for (const field of fields) {
      field.addEventListener("input", () => {
        if (field.value !== "" && field.checkValidity()) show(Number(field.value), field);
      });
    }
    const at = (event) => {
      const box = histogram.getBoundingClientRect();
      return Math.min(1, Math.max(0, Math.round((1000 * (event.clientX - box.left)) / box.width) / 1000));
    };
    let held = false;
    histogram.classList.add("draggable");
    histogram.addEventListener("pointerdown", (event) => {
      held = true;
      histogram.setPointerCapture(event.pointerId);
      show(at(event), null);
    });
    histogram.addEventListener("pointermove", (event) => { if (held) show(at(event), null); });
    for (const ended of ["pointerup", "pointercancel"]) histogram.addEventListener(ended, () => { held = false; });
  }

  function saving() {
    const form = one("[data-save]");
    if (!form) return;
    const say = (text) => {
      const notice = one("[data-notice]");
      notice.textContent = text;
      notice.hidden = false;
      notice.scrollIntoView({ block: "nearest" });
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = one("button", form);
      button.disabled = true;
      try {
        const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
        if (answer.ok) {
          location.assign(answer.url);
          return;
        }
        const shown = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (one("[data-save]", shown)) {
          one("main").replaceWith(one("main", shown));
          start();
          one("[data-notice]").scrollIntoView({ block: "nearest" });
          return;
        }
        await renewed(form, say, one("main", shown).textContent);
      } catch (failure) {
        say(form.dataset.unanswered);
      }
      button.disabled = false;
    });
  }

  // After a restart of the page its forms are too old: take the new token, and keep all that was typed.
  async function renewed(form, say, said) {
    const again = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const token = one("[data-save] [name=token]", again), held = one("[name=token]", form);
    if (token && token.value !== held.value) {
      held.value = token.value;
      say(form.dataset.restarted);
    } else say(said.trim());
  }

  function start() {
    dragging();
    saving();
  }

  start();
})();
