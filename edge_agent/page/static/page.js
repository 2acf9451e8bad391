// The page's one script: what a server-rendered page cannot do by itself. Every view can be read without it.
"use strict";

(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  function viewer() {
    const shown = one("[data-viewer]"), controls = one("[data-controls]");
    if (!controls) return;
    const fade = one("[data-fade]"), beside = one("[data-beside]"), map = one(".map", shown);
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
    controls.hidden = false;
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

  viewer();
  keys();
  grid();
})();
