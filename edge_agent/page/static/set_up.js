// Setting up a station: the camera's picture as it is now, files that are sent one by one, and how far a try is.
"use strict";

(() => {
  const one = (selector) => document.querySelector(selector);
  const EVERY_MS = 1000;

  // The next picture is asked for once the last one is there, so that a slow camera is not asked twice.
  function live() {
    const shown = one("[data-live-picture]"), none = one("[data-no-picture]");
    if (!shown) return;
    const address = shown.getAttribute("src");
    const next = () => setTimeout(() => {
      if (document.hidden) next();
      else shown.src = `${address}?${Date.now()}`;
    }, EVERY_MS);
    shown.addEventListener("load", () => { none.hidden = true; next(); });
    shown.addEventListener("error", () => { none.hidden = false; next(); });
    if (shown.complete) next();
  }

  function upload() {
    const form = one("[data-upload]");
    if (!form) return;
    const input = form.querySelector("input"), said = form.querySelector("[data-said]");
    form.hidden = false;
    input.addEventListener("change", async () => {
      const files = [...input.files], refused = [];
      input.disabled = true;
      for (const [at, file] of files.entries()) {
        said.textContent = `${at + 1} / ${files.length}`;
        try {
          const answer = await fetch(`${form.dataset.upload}?${new URLSearchParams({ name: file.name })}`, {
            method: "POST", body: file, headers: { "X-Token": form.dataset.token, Accept: "application/json" },
          });
          if (!answer.ok) refused.push(answer.status === 400 ? (await answer.json()).notice : `${file.name}: ${answer.status}`);
        } catch (failure) {
          refused.push(`${file.name}: ${failure.message}`);
        }
      }
      input.disabled = false;
      if (!refused.length) { location.reload(); return; }
      said.textContent = refused.join("; ");
    });
  }

  function progress() {
    const place = one("[data-progress]");
    if (!place) return;
    const look = async () => {
      try {
        const now = await (await fetch(place.dataset.progress)).json();
        if (!now.runs) { location.reload(); return; }
        place.querySelector("[data-seconds]").textContent = now.seconds;
        place.querySelector("[data-line]").textContent = now.said;
      } catch (failure) { /* asked again */ }
      setTimeout(look, EVERY_MS);
    };
    setTimeout(look, EVERY_MS);
  }

  live();
  upload();
  progress();
})();
