"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const one = (query, root = document) => root.querySelector(query);
  all(".js").forEach((node) => { node.hidden = false; });

  const theme = one("#theme");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const panes = all(".pane");
  const position = one("#position");
  let plane = one(".plane");
  let mode = "slide";
  let clock = 0;

  const show = () => {
    const at = Number(position.value);
    panes.forEach((pane) => {
      const top = one(".above", pane);
      if (!top) return;
      top.style.clipPath = mode === "slide" ? `inset(0 0 0 ${at}%)` : "";
      top.style.opacity = mode === "fade" ? at / 100 : "";
      one(".line", pane).hidden = mode !== "slide";
      one(".line", pane).style.left = `${at}%`;
      one(".now", pane).textContent = mode === "slide" ? "" : mode === "fade" ? `${at} %` : "";
    });
  };

  const fill = () => {
    const slice = one(".slice:not([hidden])", plane);
    panes.forEach((pane) => {
      const below = one('[data-key="fixed"] .frame', slice).cloneNode(true);
      const above = document.createElement("div");
      above.className = "above";
      above.append(one(`[data-key="${pane.dataset.other}"] .stage`, slice).cloneNode(true));
      all(".dashed", below).forEach((path) => path.remove());
      one(".stage", below).after(above);
      const line = document.createElement("span");
      line.className = "line";
      const now = document.createElement("span");
      now.className = "now";
      below.append(line, now);
      pane.replaceChildren(below);
      pane.style.cssText = plane.style.cssText;
    });
    show();
  };

  const press = (button) => {
    all("button", button.parentNode).forEach((other) => {
      other.setAttribute("aria-pressed", String(other === button));
    });
  };

  all("[data-mode]").forEach((button) => button.addEventListener("click", () => {
    press(button);
    mode = button.dataset.mode;
    clearInterval(clock);
    show();
    position.disabled = mode === "blink";
    if (mode === "blink") {
      let on = true;
      clock = setInterval(() => {
        on = !on;
        panes.forEach((pane) => {
          one(".above", pane).style.opacity = on ? 1 : 0;
          one(".now", pane).textContent = on ? pane.dataset.other : "fixed";
        });
      }, 600);
    }
  }));

  all("[data-plane]").forEach((button) => button.addEventListener("click", () => {
    press(button);
    plane = document.getElementById(button.dataset.plane);
    fill();
  }));

  position.addEventListener("input", show);
  panes.forEach((pane) => pane.addEventListener("pointermove", (event) => {
    if (mode === "blink" || (event.pointerType !== "mouse" && event.buttons === 0)) return;
    const box = pane.getBoundingClientRect();
    position.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
    show();
  }));

  all(".plane").forEach((section) => {
    const range = one(".slider input", section);
    if (!range) return;
    const slices = all(".slice", section);
    const choose = () => {
      const chosen = Number(range.value);
      slices.forEach((slice, n) => { slice.hidden = n !== chosen; });
      one("output", section).textContent = slices[chosen].dataset.label;
      if (section === plane) fill();
    };
    range.addEventListener("input", choose);
    all(".step", section).forEach((button) => button.addEventListener("click", () => {
      range.value = String(Number(range.value) + Number(button.dataset.by));
      choose();
    }));
  });

  fill();
})();
