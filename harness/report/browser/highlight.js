// The run under the mouse, in every picture at once and in the table, and the words about it.

const SVG = "http://www.w3.org/2000/svg";
let lit = null;

function light(run) {
  if (run === lit) return;
  if (lit !== null) rows[lit].classList.remove("lit");
  lit = run;
  if (lit !== null) rows[lit].classList.add("lit");
  plots.filter((plot) => plot.drawn && plot.inView).forEach(outline);
}

// Where a run is in a figure: places of its points, and curves.
function marksOf(figure, run) {
  if (!figure.marks) {
    figure.marks = new Map();
    const add = (at, mark) => { if (!figure.marks.has(at)) figure.marks.set(at, []); figure.marks.get(at).push(mark); };
    for (const trace of figure.data) {
      if (trace.meta && "run" in trace.meta) add(trace.meta.run, { x: trace.x, y: trace.y });
      else if (trace.customdata) trace.customdata.forEach((at, place) => add(at, { x: [trace.x[place]], y: [trace.y[place]] }));
    }
  }
  return figure.marks.get(run) || [];
}

function outline(plot) {
  plot.place.querySelectorAll(".highlight").forEach((old) => old.remove());
  if (isParallel(plot)) return outlineParallel(plot);
  if (lit === null) return;
  const layout = plot.place._fullLayout, xaxis = layout.xaxis, yaxis = layout.yaxis, svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "highlight");
  for (const mark of marksOf(figureOf(plot), lit)) {
    const points = Array.from(mark.x, (x, k) => [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(mark.y[k])]);
    for (const kind of ["halo", "ink"]) {
      const shape = document.createElementNS(SVG, points.length > 1 ? "path" : "circle");
      shape.setAttribute("class", kind);
      if (points.length > 1) shape.setAttribute("d", "M" + points.map((point) => point.map((v) => v.toFixed(1)).join(",")).join("L"));
      else [["cx", points[0][0]], ["cy", points[0][1]], ["r", 8]].forEach(([name, value]) => shape.setAttribute(name, value));
      svg.append(shape);
    }
  }
  // Curves run on outside the axes.
  const frame = [yaxis._offset, layout.width - xaxis._offset - xaxis._length, layout.height - yaxis._offset - yaxis._length, xaxis._offset];
  svg.style.clipPath = "inset(" + frame.map((v) => Math.max(0, v - 10) + "px").join(" ") + ")";
  plot.place.append(svg);
}

// Parallel coordinates draw all lines alike: the best one, and the one under the mouse, are drawn over them.
function outlineParallel(plot) {
  const trace = figureOf(plot).data[0], frame = plot.place.getBoundingClientRect(), svg = document.createElementNS(SVG, "svg");
  const axes = Array.from(plot.place.querySelectorAll(".parcoords .y-axis"), (axis) => [axis.querySelector(".axis-title").textContent, axis.querySelector(".domain")])
    .filter(([, line]) => line).map(([label, line]) => [trace.dimensions.find((one) => one.label === label), line.getBoundingClientRect()])
    .sort(([, one], [, other]) => one.left - other.left);
  svg.setAttribute("class", "highlight");
  for (const [run, kinds] of [[trace.meta.best, ["halo", "best"]], [lit, ["halo", "ink"]]]) {
    const line = trace.meta.runs.indexOf(run);
    if (line < 0 || (keeping && !keeping.has(run))) continue;
    const points = axes.map(([dimension, box]) => {
      const [low, high] = dimension.range, share = (dimension.values[line] - low) / (high - low);
      return (box.left + box.width / 2 - frame.left).toFixed(1) + "," + (box.bottom - share * box.height - frame.top).toFixed(1);
    });
    for (const kind of kinds) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", kind);
      path.setAttribute("d", "M" + points.join("L"));
      svg.append(path);
    }
  }
  // Below the words of the axes.
  svg.style.zIndex = "auto";
  plot.place.querySelector(".parcoords").closest("svg").before(svg);
}

// The words under the mouse are those of the run's row. value: [name, y, x] of a point on a curve.
function tip(run, event, value) {
  const box = document.getElementById("tip");
  box.hidden = run === null;
  if (run === null) return;
  const cells = rows[run].cells, columns = Array.from(document.querySelectorAll("#runs th"));
  const list = (kind) => {
    const entries = document.createElement("dl");
    columns.forEach((column, k) => {
      if (column.dataset.kind === kind && cells[k].dataset.v !== "") entries.append(...pair(column.textContent, cells[k].textContent, cells[k].classList.contains("violated")));
    });
    return entries;
  };
  const heading = document.createElement("h4"), state = document.createElement("small");
  state.textContent = rows[run].dataset.state + (rows[run].dataset.marks === "pareto" ? " · Pareto front" : "");
  heading.append(rows[run].dataset.run, state);
  const here = document.createElement("dl");
  if (value) here.append(...pair(value[0], Number(value[1]).toPrecision(5)), ...pair("at tokens", Number(value[2]).toLocaleString("en")));
  box.replaceChildren(...[heading, here, list("metric"), list("param"), list("cost")].filter((part) => part === heading || part.childElementCount));
  const left = event.clientX + 18 + box.offsetWidth > innerWidth ? event.clientX - box.offsetWidth - 18 : event.clientX + 18;
  box.style.left = Math.max(4, left) + "px";
  box.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8)) + "px";
}

function pair(name, text, violated) {
  const term = document.createElement("dt"), words = document.createElement("dd");
  term.textContent = name;
  words.textContent = text;
  if (violated) words.className = "violated";
  return [term, words];
}

// A click finds the run in the table.
function find(run) {
  if (run === undefined) return;
  rows.forEach((row) => row.classList.remove("found"));
  rows[run].classList.add("found");
  rows[run].hidden = false;
  rows[run].scrollIntoView({ block: "center", behavior: "smooth" });
}
