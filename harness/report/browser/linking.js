// Which runs are shown: every source (the filter, the chips, an axis, a box) may narrow it down; all pictures and the table follow.
// A run is known by its place in rank order, which is the index of its row as the page was written.

const rows = Array.from(document.querySelectorAll("#runs tbody tr"));  // as written: rows that say more come later
const narrowed = new Map();  // by source: the set of runs that it keeps
let keeping = null;          // the runs that all sources keep; null where nothing is narrowed down

function narrow(source, runs, except) {
  if (runs) narrowed.set(source, runs); else narrowed.delete(source);
  const sets = Array.from(narrowed.values());
  keeping = sets.length ? new Set(rows.map((_, run) => run).filter((run) => sets.every((set) => set.has(run)))) : null;
  rows.forEach((row, run) => {
    row.hidden = keeping !== null && !keeping.has(run);
    if (opened.has(row)) opened.get(row).hidden = row.hidden;
  });
  document.getElementById("shown").textContent = keeping ? keeping.size + " of " + rows.length + " runs" : "";
  document.getElementById("clear").hidden = keeping === null;
  document.getElementById("none-left").hidden = !keeping || keeping.size > 0;
  redraw(except);
}

function clearAll() {
  narrowed.clear();
  document.getElementById("filter").value = "";
  document.querySelectorAll(".chip").forEach((chip) => chip.setAttribute("aria-pressed", "false"));
  plots.forEach((plot) => { plot.ranges = null; });
  filter();
}

// A trace with what is left out paled.
function kept(trace, plot) {
  if (trace.type === "parcoords") return keptParallel(trace, plot);
  const meta = trace.meta || {};
  if ("run" in meta) {
    if (keeping && !keeping.has(meta.run)) trace.opacity = 0.07;
  } else if (trace.customdata && trace.mode === "markers") {
    const places = [];
    if (keeping) trace.customdata.forEach((run, place) => { if (keeping.has(run)) places.push(place); });
    trace.selectedpoints = keeping ? places : null;
    trace.unselected = { marker: { opacity: 0.08 } };
  }
  return trace;
}

// Parallel coordinates cannot pale single lines: those left out by others are not drawn. What its own axes leave out, it pales itself.
function keptParallel(trace, plot) {
  const others = Array.from(narrowed).filter(([source]) => source !== "parallel").map(([, runs]) => runs);
  const places = trace.meta.runs.map((_, place) => place).filter((place) => others.every((runs) => runs.has(trace.meta.runs[place])));
  const pick = (values) => places.map((place) => values[place]);
  const ranges = plot.ranges || [];
  trace.dimensions = trace.dimensions.map((dimension, k) => (
    Object.assign({}, dimension, { values: pick(dimension.values) }, ranges[k] ? { constraintrange: ranges[k] } : {})));
  trace.line = Object.assign({}, trace.line, { color: pick(trace.line.color) });
  return trace;
}

// After a drag along an axis.
function narrowByAxes(plot) {
  const labels = new Map(plot.place.data[0].dimensions.map((dimension) => [dimension.label, dimension.constraintrange]));
  const trace = figureOf(plot).data[0];
  plot.ranges = trace.dimensions.map((dimension) => labels.get(dimension.label) || null);
  const within = (value, range) => (Array.isArray(range[0]) ? range : [range]).some(([low, high]) => value >= low && value <= high);
  const active = plot.ranges.some(Boolean);
  const runs = trace.meta.runs.filter((_, line) => trace.dimensions.every((dimension, k) => !plot.ranges[k] || within(dimension.values[line], plot.ranges[k])));
  narrow("parallel", active ? new Set(runs) : null, plot);
}

function listen(plot) {
  const runOf = (point) => (typeof point.customdata === "number" ? point.customdata : ((point.data || {}).meta || {}).run);
  plot.place.on("plotly_hover", (event) => {
    if (isParallel(plot)) return;
    const point = event.points[0], run = runOf(point);
    if (run === undefined) return;
    light(run);
    const value = (point.data.meta || {}).run === undefined ? null : [figureOf(plot).layout.yaxis.title.text, point.y, point.x];
    tip(run, event.event, value);
  });
  plot.place.on("plotly_unhover", () => { light(null); tip(null); });
  plot.place.on("plotly_click", (event) => { if (!isParallel(plot)) find(runOf(event.points[0])); });
  plot.place.on("plotly_relayout", () => outline(plot));
  plot.place.on("plotly_restyle", () => { if (isParallel(plot)) narrowByAxes(plot); });
  plot.place.on("plotly_selected", (event) => {
    if (event && event.points.length) narrow("box", new Set(event.points.map(runOf).filter((run) => run !== undefined)));
  });
  plot.place.on("plotly_deselect", () => narrow("box", null));
}
