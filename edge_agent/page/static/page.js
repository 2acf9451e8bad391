// The page's one script: what a server-rendered page cannot do by itself. Every view can be read without it.
"use strict";

(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  function viewer() {
    const shown = one("[data-viewer]"), controls = one("[data-controls]");
    if (!controls) return;
    const fade = one("[data-fade]"), beside = one("[data-beside]"), map = one("[data-map]", shown);
    const place = () => {
      const side = beside.getAttribute("aria-pressed") === "true";
      shown.classList.toggle("beside", side);
      shown.classList.toggle("stacked", !side);
      map.style.opacity = side ? 1 : fade.value / 100;
    };
    fade.addEventListener("input", place);
    beside.addEventListener("click", () => {
      beside.setAttribute("aria-pressed", beside.getAttribute("aria-pressed") !== "true");
      place();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== " " || typing(event)) return;
      event.preventDefault();
      fade.value = Number(fade.value) > 0 ? 0 : 100;
      place();
    });
    place();
  }

  // Whether a key belongs to what has the focus, or to the browser.
  function typing(event) {
    const at = event.target;
    return event.ctrlKey || event.altKey || event.metaKey || at.matches("input:not([type=range]), select, textarea")
      || ([" ", "Enter"].includes(event.key) && at.closest("a, button, summary") !== null)
      || (event.key.startsWith("Arrow") && at.matches("input[type=range]"));
  }

  function keys() {
    document.addEventListener("keydown", (event) => {
      if (typing(event)) return;
      const target = all("[data-key]").find((element) => element.dataset.key.toLowerCase() === event.key.toLowerCase());
      if (!target) return;
      event.preventDefault();
      target.click();
    });
  }

  function grid() {
    const list = one("[data-grid]");
    if (!list) return;
    const links = all("a", list);
    document.addEventListener("keydown", (event) => {
      const within = list.contains(document.activeElement);
      if (!links.length || (!within && document.activeElement !== document.body && document.activeElement.id !== "main")) return;
      const columns = links.filter((link) => link.offsetTop === links[0].offsetTop).length;
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (!step) return;
      event.preventDefault();
      const at = links.indexOf(document.activeElement);
      links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))].focus();
    });
  }

  // Draw a box around a defect, by finger or mouse, in pixels of the inspected picture.
  function drawing() {
    const form = one("[data-say]"), button = one("[data-draw]"), frames = all("[data-frames]").pop();
    if (!form || !button || !frames) return;
    const { width, height } = frames.viewBox.baseVal;
    let start = null, box = null;
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(frames.getScreenCTM().inverse());
      return [Math.min(width, Math.max(0, point.x)), Math.min(height, Math.max(0, point.y))];
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      frames.classList.toggle("drawing", on);
      if (on) frames.scrollIntoView({ block: "nearest" });
    });
    frames.addEventListener("pointerdown", (event) => {
      frames.setPointerCapture(event.pointerId);
      start = at(event);
      box = box || frames.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
      box.setAttribute("class", "said");
    });
    frames.addEventListener("pointermove", (event) => {
      if (!start) return;
      const end = at(event);
      const [x, y] = [0, 1].map((side) => Math.floor(Math.min(start[side], end[side])));
      const [w, h] = [Math.ceil(Math.max(start[0], end[0])) - x, Math.ceil(Math.max(start[1], end[1])) - y];
      Object.entries({ x, y, width: w, height: h }).forEach(([name, value]) => box.setAttribute(name, value));
      one("[data-box]", form).value = w > 0 && h > 0 ? [x, y, w, h].join(",") : "";
    });
    for (const ended of ["pointerup", "pointercancel"]) frames.addEventListener(ended, () => { start = null; });
  }

  // Label the picture that has the focus in the grid, without leaving it.
  function labelling() {
    const list = one("[data-grid][data-token]");
    if (!list) return;
    const values = { g: "good", b: "defect", u: "none" };
    document.addEventListener("keydown", async (event) => {
      const value = values[event.key.toLowerCase()], link = document.activeElement.closest("[data-grid] a");
      if (!value || !link || typing(event) || (value === "none" && !link.dataset.seen)) return;
      event.preventDefault();
      const said = one("[data-said]", link);
      const body = new URLSearchParams({ token: list.dataset.token, seen: link.dataset.seen, value });
      try {
        const answer = await fetch(link.getAttribute("href"), { method: "POST", body, headers: { Accept: "application/json" } });
        const told = await answer.json();
        said.textContent = answer.ok ? (value === "none" ? "" : `${told.word} – ${told.who}`) : told.notice;
        if (answer.ok) link.dataset.seen = told.seen;
        said.className = `line said ${answer.ok ? value : ""}`;
      } catch (failure) {
        said.textContent = list.dataset.failed;
      }
    });
  }

  // The line as it is now. Without news for OLD_S the tiles turn grey and say so: old never looks like good.
  function live() {
    const tiles = one("[data-live]");
    if (!tiles) return;
    const OLD_S = 5, old = one("[data-old]"), age = one("[data-age]");
    const held = () => Object.fromEntries(all("[data-station]", tiles).map((tile) => [tile.dataset.station, tile]));
    let heard = performance.now();
    const listen = () => {
      const events = new EventSource(tiles.dataset.live);
      events.onmessage = (event) => {
        const { order, tiles: changed } = JSON.parse(event.data);
        const now = held();
        for (const station of order) {
          const tile = now[station] || document.createElement("div");
          tile.dataset.station = station;
          if (station in changed) replaceKeepingFocus(tile, changed[station]);
          if (tiles.children[order.indexOf(station)] !== tile) tiles.insertBefore(tile, tiles.children[order.indexOf(station)] || null);
        }
        heard = performance.now();
        show();
      };
      events.onerror = () => { events.close(); setTimeout(listen, 2000); };
    };
    const show = () => {
      const seconds = Math.floor((performance.now() - heard) / 1000);
      old.hidden = seconds < OLD_S;
      tiles.classList.toggle("old", seconds >= OLD_S);
      age.textContent = `${seconds} s`;
    };
    setInterval(show, 500);
    listen();
  }

  function replaceKeepingFocus(tile, html) {
    const at = all("a, button", tile).indexOf(document.activeElement);
    tile.innerHTML = html;
    const again = all("a, button", tile)[at];
    if (again) again.focus();
  }

  viewer();
  keys();
  live();
  drawing();
  labelling();
  grid();
})();
