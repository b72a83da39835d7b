// The table of all runs: sorted by its headings; the filter's words and conditions, and the chips, narrow it down.

const columns = Array.from(document.querySelectorAll("#runs th"));

function sortable() {
  const body = document.querySelector("#runs tbody");
  columns.forEach((head, column) => {
    if (rows.some((row) => row.cells[column].classList.contains("number"))) head.classList.add("number");
    head.firstChild.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      columns.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.v;
      const numeric = rows.every((row) => value(row) === "" || !isNaN(value(row)));
      const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
      body.append(...Array.from(rows).sort((a, b) => (value(a) === "") - (value(b) === "") || sign * compare(value(a), value(b))));
    });
  });
  body.addEventListener("mouseover", (event) => {
    const row = event.target.closest("tr");
    if (row) light(rows.indexOf(row));
  });
  body.addEventListener("mouseleave", () => light(null));
}

// A word, or a condition on a column by its name, or by the end of it: loss<2.4. Null where there is no such column.
function condition(term) {
  const parts = term.match(/^(.+?)(<=|>=|<|>|=)(.+)$/);
  if (!parts) return (row) => row.textContent.toLowerCase().includes(term.toLowerCase());
  const [, name, relation, wanted] = parts, lower = name.toLowerCase();
  const names = (head) => [head.dataset.key.toLowerCase(), head.textContent.toLowerCase()];
  let column = columns.findIndex((head) => names(head).includes(lower));
  if (column < 0) column = columns.findIndex((head) => names(head).some((known) => known.split(" ")[0].endsWith(lower)));
  if (column < 0) return null;
  const holds = {
    "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
  }[relation];
  return (row) => {
    const value = row.cells[column].dataset.v;
    if (value === "") return false;
    return isNaN(value) || isNaN(wanted) ? holds(value.toLowerCase(), wanted.toLowerCase()) : holds(Number(value), Number(wanted));
  };
}

function filterable() {
  const input = document.getElementById("filter");
  let pause = null;
  input.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      const conditions = input.value.split(/\s+/).filter(Boolean).map(condition);
      input.classList.toggle("wrong", conditions.includes(null));
      const all = conditions.filter(Boolean);
      narrow("filter", all.length ? matching((row) => all.every((holds) => holds(row))) : null);
    }, 120);
  });
  document.querySelectorAll(".chip").forEach((chip) => chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
    const pressed = Array.from(document.querySelectorAll('.chip[aria-pressed="true"]'));
    for (const attribute of ["state", "marks"]) {
      const wanted = pressed.filter((other) => other.dataset.attribute === attribute).map((other) => other.dataset.value);
      narrow("chips:" + attribute, wanted.length ? matching((row) => wanted.includes(row.dataset[attribute])) : null);
    }
  }));
  document.getElementById("clear").addEventListener("click", clearAll);
}

const matching = (holds) => new Set(rows.map((_, run) => run).filter((run) => holds(rows[run])));
