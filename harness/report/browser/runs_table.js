// The table of all runs: sorted by its headings, as wide as there is room for, and each row opens.

const columns = Array.from(document.querySelectorAll("#runs th"));
const opened = new Map();  // by row: the row below it that says more
let sorted = "";           // the key of a column, with - before it for descending; "" for rank order

// A parameter that is not active is "", and null may be one of its choices.
const areNumbers = (values) => values.every((value) => value === "" || value === "null" || !isNaN(value));

function place(order) {
  document.querySelector("#runs tbody").append(...order.flatMap((row) => (opened.has(row) ? [row, opened.get(row)] : [row])));
}

function sortBy(wanted) {
  sorted = wanted;
  const column = columns.findIndex((head) => head.dataset.key === wanted.replace(/^-/, "")), sign = wanted.startsWith("-") ? -1 : 1;
  columns.forEach((other) => other.removeAttribute("aria-sort"));
  if (column < 0) return place(rows);
  columns[column].setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const value = (row) => row.cells[column].dataset.v;
  const numeric = areNumbers(rows.map(value)), last = (row) => (value(row) === "" ? 2 : numeric && value(row) === "null" ? 1 : 0);
  const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
  place(Array.from(rows).sort((a, b) => last(a) - last(b) || sign * compare(value(a), value(b))));
}

function sortable() {
  const body = document.querySelector("#runs tbody");
  columns.forEach((head, column) => {
    if (rows.some((row) => row.cells[column].classList.contains("number"))) head.classList.add("number");
    head.firstChild.addEventListener("click", () => {
      sortBy((head.getAttribute("aria-sort") === "ascending" ? "-" : "") + head.dataset.key);
      remember();
    });
  });
  body.addEventListener("mouseover", (event) => {
    const row = event.target.closest("tr");
    if (rows.includes(row)) light(rows.indexOf(row));
  });
  body.addEventListener("mouseleave", () => light(null));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (rows.includes(row)) open(row);
  });
}

// Columns for which there is no room are left out, the last in `data-keep` first; an open row has all of them.
const narrowing = document.head.appendChild(document.createElement("style"));
function fit() {
  const table = document.getElementById("runs"), note = document.getElementById("left-out"), out = [];
  const expendable = columns.filter((head) => head.dataset.keep).sort((a, b) => b.dataset.keep - a.dataset.keep);
  const leave = () => { narrowing.textContent = out.map((head) => "#runs tr > :nth-child(" + (columns.indexOf(head) + 1) + ")").join(",") + (out.length ? "{display:none}" : ""); };
  leave();
  while (expendable.length && table.scrollWidth > table.parentElement.clientWidth) { out.push(expendable.shift()); leave(); }
  note.textContent = out.length ? "No room here for " + columns.filter((head) => out.includes(head)).map((head) => head.textContent).join(", ") + ": an open row has them." : "";
}

// What a row says when it is opened: how it differs from the best, its curve, all of its values, and the commands.
function open(row) {
  const button = row.querySelector("button"), known = opened.get(row);
  button.setAttribute("aria-expanded", String(!known));
  if (known) { known.remove(); opened.delete(row); return; }
  const below = document.createElement("tr"), cell = below.appendChild(document.createElement("td"));
  below.className = "more";
  cell.colSpan = columns.length;
  cell.append(...[differences(row), curveOf(row), list("All of it", columns.map((head, k) => [head, k]).slice(2), row), commands(row)].filter(Boolean));
  row.after(below);
  opened.set(row, below);
}

function part(title, ...content) {
  const box = document.createElement("div"), heading = document.createElement("h4");
  heading.textContent = title;
  box.append(heading, ...content);
  return box;
}

function list(title, chosen, row, beside) {
  const entries = document.createElement("dl");
  for (const [head, k] of chosen) {
    const text = row.cells[k].textContent + (beside ? " (" + beside.cells[k].textContent + ")" : "");
    if (beside || row.cells[k].dataset.v !== "") entries.append(...pair(head.textContent, text, row.cells[k].classList.contains("violated")));
  }
  return part(title, entries);
}

const best = rows.find((row) => row.classList.contains("best"));
function differences(row) {
  if (!best || row === best) return null;
  const apart = columns.map((head, k) => [head, k]).filter(([head, k]) => head.dataset.kind === "param" && row.cells[k].dataset.v !== best.cells[k].dataset.v);
  return apart.length ? list("Where it differs (and the best)", apart, row, best) : null;
}

function curveOf(row) {
  const figure = plots.map(figureOf).find((drawn) => drawn.data.some((trace) => trace.meta && "run" in trace.meta));
  const traces = figure ? figure.data.filter((trace) => trace.meta && [row, best].map((one) => rows.indexOf(one)).includes(trace.meta.run)) : [];
  const mine = traces.find((trace) => trace.meta.run === rows.indexOf(row));
  if (!mine) return null;
  const xs = traces.flatMap((trace) => Array.from(trace.x)), ys = traces.flatMap((trace) => Array.from(trace.y));
  const scale = (values, size) => { const low = Math.min(...values), span = Math.max(...values) - low || 1; return (v) => 4 + (v - low) / span * (size - 8); };
  const x = scale(xs, 280), y = scale(ys, 120), svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 280 120");
  for (const trace of [...traces.filter((other) => other !== mine), mine]) {
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("class", trace.meta.run === rows.indexOf(best) ? "of-best" : "own");
    line.setAttribute("points", Array.from(trace.x, (at, k) => x(at).toFixed(1) + "," + (120 - y(trace.y[k])).toFixed(1)).join(" "));
    svg.append(line);
  }
  return part(figure.layout.yaxis.title.text + (row === best ? "" : ", and the best's"), svg);
}

function commands(row) {
  const facts = JSON.parse(row.dataset.more), box = document.createElement("dl");
  for (const [name, words] of facts.commands || []) {
    const code = document.createElement("code"), copy = document.createElement("button");
    code.textContent = words;
    copy.textContent = "Copy";
    copy.type = "button";
    // Without the clipboard's own interface, which pages from a disk may lack.
    copy.addEventListener("click", () => { getSelection().selectAllChildren(code); if (document.execCommand("copy")) copy.textContent = "Copied"; });
    const [term, value] = pair(name, "");
    value.append(code, copy);
    box.append(term, value);
  }
  if (facts.reason) box.append(...pair("why", facts.reason));
  if (facts.link) {
    const [term, value] = pair("W&B", ""), link = value.appendChild(document.createElement("a"));
    link.href = link.textContent = facts.link;
    link.rel = "noopener";
    box.append(term, value);
  }
  return box.childElementCount ? part("Commands and more", box) : null;
}
