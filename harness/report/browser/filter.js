// The filter above the pictures: words that a row holds, and conditions on columns: lr > 1e-3  tokens>=120k  time<5m  schedule=wsd

const RELATION = "<=|>=|==|!=|≤|≥|<|>|=", PART = "\"[^\"]+\"|[^\\s<>=!≤≥]+";
const CONDITION = new RegExp("(" + PART + ")\\s*(" + RELATION + ")\\s*(" + PART + ")((?:\\s+(?:[kmbtshd]|min|tokens?)(?=\\s|$))*)", "gi");
const THOUSANDS = { k: 1e3, m: 1e6, b: 1e9, t: 1e12 }, SECONDS = { s: 1, m: 60, min: 60, h: 3600, d: 86400 };

// The number that a reader means, and how far a value may be from it, since values are shown rounded: half of the last digit that he wrote,
// at most half a per cent. 1e-3  0,001  120k  1,500,000  25%; of a time 3m10s. NaN if it is none.
function quantity(words, isTime) {
  const text = words.toLowerCase().replace(/["_\s]|tokens?/g, "").replace("−", "-");
  if (isTime && /^([\d.]+(min|[smhd]))+$/.test(text)) {
    return [Array.from(text.matchAll(/([\d.]+)(min|[smhd])/g)).reduce((sum, [, amount, unit]) => sum + amount * SECONDS[unit], 0), 0];
  }
  const plain = /^[-+]?[1-9]\d{0,2}(,\d{3})+(\D|$)/.test(text) ? text.replace(/,/g, "") : text.replace(",", ".");
  const [, sign, digits, power, unit] = plain.match(/^([-+]?)(\d+\.?\d*|\.\d+)(e[-+]?\d+)?([kmbt%]?)$/) || [];
  if (digits === undefined) return [NaN, 0];
  const scale = Number("1" + (power || "")) * (unit === "%" ? 0.01 : THOUSANDS[unit] || 1), wanted = digits * scale;
  const lastDigit = 10 ** -(digits.split(".")[1] || "").length * scale;
  return [sign === "-" ? -wanted : wanted, Math.min(lastDigit / 2, wanted * 0.005)];
}

function columnNamed(name) {
  const lower = name.replace(/"/g, "").toLowerCase(), names = (head) => [head.dataset.key.toLowerCase(), head.textContent.toLowerCase()];
  const exact = columns.findIndex((head) => names(head).includes(lower));
  return exact >= 0 ? exact : columns.findIndex((head) => names(head).some((known) => known.split(" ")[0].endsWith(lower)));
}

// {holds} of a row, or {problem} in words.
function condition(name, relation, words) {
  const column = columnNamed(name);
  if (column < 0) return { problem: "no column “" + name + "”; there are " + columns.map((head) => head.textContent.split(" ")[0]).join(", ") };
  const key = columns[column].dataset.key, [wanted, near] = quantity(words, key === "time"), text = words.trim().replace(/"/g, "").toLowerCase();
  const given = rows.map((row) => row.cells[column].dataset.v).filter((value) => value !== ""), numeric = given.length > 0 && areNumbers(given);
  if (numeric && isNaN(wanted) && text !== "null") return { problem: "“" + text + "” is no number for " + key };
  if (!numeric && !["=", "==", "!="].includes(relation)) return { problem: key + " is not a number: only = and != compare it" };
  const same = (value, shown) => (numeric ? Math.abs(value - wanted) <= near || shown === text : value.toLowerCase() === text || shown === text);
  const holds = {
    "<": (v, shown) => Number(v) < wanted && !same(v, shown), ">": (v, shown) => Number(v) > wanted && !same(v, shown),
    "<=": (v, shown) => Number(v) < wanted || same(v, shown), ">=": (v, shown) => Number(v) > wanted || same(v, shown),
    "=": same, "!=": (v, shown) => !same(v, shown),
  }[{ "≤": "<=", "≥": ">=", "==": "=" }[relation] || relation];
  return { holds: (row) => row.cells[column].dataset.v !== "" && holds(row.cells[column].dataset.v, row.cells[column].textContent.toLowerCase()) };
}

function understood(input) {
  const parts = Array.from(input.matchAll(CONDITION), ([, name, relation, words, units]) => condition(name, relation, words + units));
  for (const word of input.replace(CONDITION, " ").split(/\s+/).filter(Boolean)) {
    parts.push(/[<>=!≤≥]/.test(word) ? { problem: "“" + word + "” has no column before it and a value behind it" }
      : { holds: (row) => (row.dataset.run + " " + row.textContent).toLowerCase().includes(word.toLowerCase()) });
  }
  return parts;
}

function filter() {
  const input = document.getElementById("filter"), parts = understood(input.value), problems = parts.filter((part) => part.problem);
  input.classList.toggle("wrong", problems.length > 0);
  document.getElementById("not-understood").textContent = problems.map((part) => part.problem).join(". ");
  const all = parts.filter((part) => part.holds);
  narrow("filter", all.length ? matching((row) => all.every((part) => part.holds(row))) : null);
}

function filterByChips() {
  const pressed = Array.from(document.querySelectorAll('.chip[aria-pressed="true"]'));
  for (const attribute of ["state", "marks"]) {
    const wanted = pressed.filter((other) => other.dataset.attribute === attribute).map((other) => other.dataset.value);
    narrow("chips:" + attribute, wanted.length ? matching((row) => wanted.includes(row.dataset[attribute])) : null);
  }
}

function filterable() {
  let pause = null;
  document.getElementById("filter").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => { filter(); remember(); }, 120);
  });
  document.querySelectorAll(".chip").forEach((chip) => chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
    filterByChips();
    remember();
  }));
  document.getElementById("clear").addEventListener("click", () => { clearAll(); remember(); });
  // The address holds the filter, not the section.
  document.getElementById("links").addEventListener("click", (event) => {
    if (!event.target.hash) return;
    event.preventDefault();
    document.querySelector(event.target.hash).scrollIntoView({ behavior: "smooth" });
  });
  addEventListener("hashchange", recall);
}

const matching = (holds) => new Set(rows.map((_, run) => run).filter((run) => holds(rows[run])));

// What is filtered and sorted is in the address, so that a link shows the same: #filter=lr>1e-3&state=complete&sort=-optim.lr
function remember() {
  const said = new URLSearchParams(), pressed = (attribute) => Array.from(document.querySelectorAll('.chip[aria-pressed="true"]')).filter((chip) => chip.dataset.attribute === attribute).map((chip) => chip.dataset.value);
  const wanted = { filter: document.getElementById("filter").value.trim(), state: pressed("state").join(","), marks: pressed("marks").join(","), sort: sorted };
  for (const [name, value] of Object.entries(wanted)) if (value) said.set(name, value);
  // A page inside another one, as W&B shows it, has no address of its own.
  if (["file:", "http:", "https:"].includes(location.protocol)) history.replaceState(null, "", "#" + said);
}

function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (!["filter", "state", "marks", "sort"].some((name) => said.has(name))) return;
  document.getElementById("filter").value = said.get("filter") || "";
  document.querySelectorAll(".chip").forEach((chip) => {
    chip.setAttribute("aria-pressed", String((said.get(chip.dataset.attribute) || "").split(",").includes(chip.dataset.value)));
  });
  filter();
  filterByChips();
  sortBy(said.get("sort") || "");
}
