"use strict";
// Best first: on light the best is dark, on dark it is bright (viridis, without the end that the background would swallow).
const SCALES = {
  light: ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#c5d93a"],
  dark: ["#fde725", "#7ad151", "#22a884", "#2a788e", "#3d5a96", "#54408a"],
};
const INK = { light: { text: "#1c2128", soft: "#5b6470", line: "#e6e9ed", zero: "#c9ced6", card: "#ffffff", step: "#1c2128" },
              dark: { text: "#e4e8ee", soft: "#98a2b0", line: "#272d36", zero: "#3b434f", card: "#171b21", step: "#e4e8ee" } };
// Plotly's modebar would offer to upload the chart: results stay here.
const OPTIONS = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["lasso2d", "select2d"] };
const FONT = getComputedStyle(document.body).fontFamily;
const figures = JSON.parse(document.getElementById("figures").textContent);
let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

function mix(stops, share) {
  const at = Math.min(share, 0.9999) * (stops.length - 1), low = Math.floor(at), rest = at - low;
  const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const channels = [0, 1, 2].map((k) => Math.round(part(stops[low], k) * (1 - rest) + part(stops[low + 1], k) * rest));
  return "rgb(" + channels.join(",") + ")";
}

function coloured(trace) {
  const line = Object.assign({}, trace.line), meta = trace.meta || {};
  if (trace.mode === "lines" && !line.color) {
    if (!("shade" in meta)) line.color = INK[theme].step;
    else line.color = mix(SCALES[theme], meta.shade);
  }
  const more = trace.type === "parcoords" ? { labelfont: { color: INK[theme].text, size: 12 }, rangefont: { color: "rgba(0,0,0,0)" }, tickfont: { color: INK[theme].soft, size: 11 }, unselected: { line: { color: INK[theme].zero, opacity: 0.25 } } } : {};
  return Object.assign({}, trace, { line: line }, more);
}

function layout(figure) {
  const ink = INK[theme], own = figure.layout;
  const axis = (mine) => Object.assign(
    { gridcolor: ink.line, linecolor: ink.zero, zeroline: false, automargin: true, ticks: "", exponentformat: "SI" },
    mine, { title: Object.assign({ font: { size: 12, color: ink.soft }, standoff: 8 }, mine && mine.title) });
  const parallel = figure.data[0].type === "parcoords";
  const result = Object.assign({}, own, {
    autosize: true, paper_bgcolor: ink.card, plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: ink.soft }, hovermode: "closest",
    hoverlabel: { bgcolor: ink.card, bordercolor: ink.zero, align: "left", font: { color: ink.text, size: 12, family: FONT } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink.zero, activecolor: ink.soft },
    margin: parallel ? { l: 60, r: 60, t: 56, b: 24 } : { l: 56, r: 16, t: 28, b: 44 },
    legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: 11.5, color: ink.soft } },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  });
  if (own.coloraxis) result.coloraxis = Object.assign({}, own.coloraxis, { colorscale: SCALES[theme].map((c, i, all) => [i / (all.length - 1), c]) });
  return result;
}

function draw() {
  document.documentElement.classList.toggle("dark", theme === "dark");
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  figures.forEach((figure, index) => {
    const place = document.getElementById("plot-" + index);
    const first = !place.data;
    Plotly.react(place, figure.data.map(coloured), layout(figure), OPTIONS);
    if (first) place.on("plotly_click", (event) => find(event.points[0].customdata || (event.points[0].data.meta || {}).run));
  });
}

function find(run) {
  document.querySelectorAll("#runs tr.found").forEach((row) => row.classList.remove("found"));
  const row = Array.from(document.querySelectorAll("#runs tbody tr")).find((candidate) => candidate.dataset.run === run);
  if (!row) return;
  row.classList.add("found");
  row.hidden = false;
  row.scrollIntoView({ block: "center", behavior: "smooth" });
}

function sortable() {
  const body = document.querySelector("#runs tbody"), heads = Array.from(document.querySelectorAll("#runs th"));
  heads.forEach((head, column) => {
    const cells = () => Array.from(body.rows, (row) => row.cells[column]);
    if (cells().some((cell) => cell.classList.contains("number"))) head.classList.add("number");
    head.firstChild.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const numeric = cells().every((cell) => cell.dataset.v === "" || !isNaN(cell.dataset.v));
      const value = (row) => row.cells[column].dataset.v;
      const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
      const rows = Array.from(body.rows).sort((a, b) => (value(a) === "") - (value(b) === "") || sign * compare(value(a), value(b)));
      body.append(...rows);
    });
  });
  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}

document.getElementById("theme").addEventListener("click", () => { theme = theme === "dark" ? "light" : "dark"; draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => { theme = event.matches ? "dark" : "light"; draw(); });
sortable();
draw();
