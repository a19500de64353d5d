"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  all(".js").forEach((node) => { node.hidden = false; });

  document.querySelector("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const table = document.querySelector("#pairs");
  if (!table) return;
  const body = table.tBodies[0];
  const figure = (cell) => Number.parseFloat(cell.textContent.replace("\u2212", "-"));
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) => {
        if (column === 0) return a.cells[0].textContent.localeCompare(b.cells[0].textContent);
        const [x, y] = [figure(a.cells[column]), figure(b.cells[column])];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return x - y;
      };
      const rows = [...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a)));
      body.replaceChildren(...rows);
    });
  });
})();
