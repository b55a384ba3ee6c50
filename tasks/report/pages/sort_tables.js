// Sorts tables of class "sortable" by a click on a column's title; without scripts they read the same.
(() => {
  const number = (text) => {
    const found = text.replace(/[,\s]/g, "").replace("−", "-").match(/^[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : null;
  };
  const compare = (one, other) => {
    const [left, right] = [number(one), number(other)];
    if (left !== null && right !== null) return left - right;
    if (left !== null || right !== null) return left !== null ? -1 : 1;
    return one.localeCompare(other);
  };
  const sort = (table, place, header) => {
    const way = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const text = (row) => row.cells[place].textContent.trim();
    const rows = [...body.rows].sort((one, other) => sign * compare(text(one), text(other)));
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((header, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, place, header));
    });
  }
})();
