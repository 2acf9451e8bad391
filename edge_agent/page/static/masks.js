// Draws masks on a picture: by finger, mouse or keyboard. What is saved is in the text fields, which can be written by hand, too.
"use strict";

(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const SVG = "http://www.w3.org/2000/svg", KINDS = ["include", "ignore"], NEAR = 22, STEP = 0.01;
  const form = one("[data-masks]");
  if (!form) return;
  const canvas = one("[data-canvas]", form), shade = one("svg", canvas), list = one("[data-list]", form);
  const text = Object.fromEntries(KINDS.map((kind) => [kind, one(`[data-text=${kind}]`, form)]));
  let shapes = read(), adding = null, corners = [], dragged = null, cross = null;

  // The shapes of both fields; null while one of them cannot be read.
  function read() {
    const found = {};
    for (const kind of KINDS) {
      found[kind] = text[kind].value.split("\n").filter((line) => line.trim()).map((line) =>
        line.trim().split(/\s+/).map((corner) => corner.split(",").map(Number)));
      const good = found[kind].every((shape) => shape.every((corner) => corner.length === 2 && corner.every((at) => at >= 0 && at <= 1)));
      if (!good) return null;
    }
    return found;
  }

  const written = (shape) => shape.map((corner) => corner.map((at) => Number(at.toFixed(4))).join(",")).join(" ");
  const yaml = (kind) => `${kind}: [${shapes[kind].map((shape) => `[${shape.map((corner) => `[${corner.map((at) => Number(at.toFixed(6))).join(", ")}]`).join(", ")}]`).join(", ")}]`;

  function write() {
    for (const kind of KINDS) text[kind].value = shapes[kind].map(written).join("\n");
    show();
  }

  function drawn(name, attributes, within) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return within.appendChild(element);
  }

  function show() {
    if (!shapes) return;
    for (const group of all("[data-shaded]")) {
      group.replaceChildren();
      drawn("rect", { width: 1, height: 1, fill: shapes.include.length ? "white" : "black" }, group);
      for (const [kind, fill] of [["include", "black"], ["ignore", "white"]]) {
        for (const shape of shapes[kind]) drawn("polygon", { points: written(shape), fill }, group);
      }
    }
    for (const old of all("[data-drawn]", shade)) old.remove();
    const group = drawn("g", { "data-drawn": "" }, shade);
    for (const kind of KINDS) {
      for (const shape of shapes[kind]) {
        drawn("polygon", { points: written(shape), class: kind }, group);
        for (const [x, y] of shape) drawn("path", { d: `M${x} ${y}h0`, class: "corner" }, group);
      }
    }
    if (corners.length) drawn("polyline", { points: written(corners), class: adding || "ignore" }, group);
    for (const [x, y] of corners) drawn("path", { d: `M${x} ${y}h0`, class: "corner" }, group);
    if (cross) drawn("path", { d: `M${cross[0]} 0V1M0 ${cross[1]}H1`, class: "cross" }, group);
    list.replaceChildren(...KINDS.flatMap((kind) => shapes[kind].map((shape, at) => {
      const item = document.createElement("li"), remove = document.createElement("button");
      item.textContent = `${form.dataset[kind]} (${shape.length}) `;
      remove.type = "button";
      remove.textContent = form.dataset.remove;
      remove.setAttribute("aria-label", `${form.dataset.remove}: ${form.dataset[kind]} ${at + 1}`);
      remove.addEventListener("click", () => { shapes[kind].splice(at, 1); write(); });
      item.append(remove);
      return item;
    })));
    one("[data-yaml]", form).textContent = KINDS.map(yaml).join("\n");
  }

  const box = () => shade.getBoundingClientRect();
  const within = (value) => Math.min(1, Math.max(0, value));
  function at(event) {
    const { left, top, width, height } = box();
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }
  function near([x, y], [otherX, otherY]) {
    const { width, height } = box();
    return Math.hypot((x - otherX) * width, (y - otherY) * height) < NEAR;
  }

  function add(kind) {
    adding = adding === kind ? null : kind;
    corners = [];
    for (const button of all("[data-add]", form)) button.setAttribute("aria-pressed", button.dataset.add === adding);
    one("[data-how]", form).hidden = adding === null;
    canvas.classList.toggle("drawing", adding !== null);
    show();
  }

  function close() {
    if (!adding || corners.length < 3) return;
    shapes[adding].push(corners);
    add(adding);
    write();
  }

  function corner(place) {
    if (corners.length > 2 && near(place, corners[0])) close();
    else { corners.push(place); show(); }
  }

  function back() { corners.pop(); show(); }

  one("[data-tools]", form).hidden = false;
  for (const button of all("[data-add]", form)) button.addEventListener("click", () => shapes && add(button.dataset.add));
  one("[data-close]", form).addEventListener("click", close);
  one("[data-back]", form).addEventListener("click", back);
  for (const field of Object.values(text)) field.addEventListener("input", () => { const found = read(); if (found) { shapes = found; show(); } });

  shade.removeAttribute("aria-hidden");
  shade.setAttribute("tabindex", "0");
  shade.setAttribute("role", "application");
  shade.setAttribute("aria-label", one("[data-how]", form).textContent);
  shade.addEventListener("pointerdown", (event) => {
    if (!shapes) return;
    const place = at(event);
    dragged = KINDS.flatMap((kind) => shapes[kind]).concat([corners]).flat().find((other) => near(place, other) && other !== corners[0]) || null;
    if (dragged) { shade.setPointerCapture(event.pointerId); event.preventDefault(); }
    else if (adding) { corner(place); event.preventDefault(); }
  });
  shade.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    [dragged[0], dragged[1]] = at(event);
    write();
  });
  for (const ended of ["pointerup", "pointercancel"]) shade.addEventListener(ended, () => { dragged = null; });
  shade.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 5 * STEP : STEP;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) cross = (cross || [0.5, 0.5]).map((value, axis) => within(Number((value + move[axis]).toFixed(4))));
    else if (event.key === "Enter") { if (!adding) add("ignore"); corner([...(cross || [0.5, 0.5])]); }
    else if (event.key.toLowerCase() === "c") close();
    else if (event.key === "Backspace") back();
    else return;
    event.preventDefault();
    show();
  });
  shade.addEventListener("blur", () => { cross = null; show(); });
  const picture = one("img", canvas);
  if (picture) canvas.style.maxWidth = `${Math.round(0.75 * innerHeight * picture.width / picture.height)}px`;
  show();
})();
