// The pictures: drawn when they come into view, the others while the browser has nothing else to do.

// Plotly's modebar would offer to upload the chart: results stay here.
const OPTIONS = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "pan2d"],
};
// Each picture: its views (the same thing on several axes), the one shown, and whether what is on the page is out of date.
const plots = JSON.parse(document.getElementById("figures").textContent).map((views, index) => (
  { place: document.getElementById("plot-" + index), views: views, view: 0, drawn: false, stale: true, inView: false }));

const figureOf = (plot) => plot.views[plot.view];
const isParallel = (plot) => figureOf(plot).data[0].type === "parcoords";

function draw(plot) {
  const figure = figureOf(plot);
  const wasDrawn = plot.drawn;
  plot.stale = false;
  plot.drawn = true;
  Plotly.react(plot.place, figure.data.map((trace) => kept(coloured(trace), plot)), themedLayout(figure), OPTIONS);
  if (!wasDrawn) listen(plot);
  outline(plot);
}

// What changed the data or the colours calls this: what is in view at once, the rest later.
function redraw(except) {
  if (!window.Plotly) return;
  plots.forEach((plot) => { if (plot !== except) plot.stale = true; });
  plots.filter((plot) => plot.stale && plot.inView).forEach(draw);
  drawLater();
}

let waiting = null;
function drawLater() {
  if (waiting !== null) return;
  waiting = requestIdleCallback(() => {
    waiting = null;
    const next = plots.find((plot) => plot.stale);
    if (!next) return;
    draw(next);
    drawLater();
  }, { timeout: 500 });
}

function watch() {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const plot = plots.find((candidate) => candidate.place === entry.target);
      plot.inView = entry.isIntersecting;
      if (plot.inView && plot.stale) draw(plot);
    }
  }, { rootMargin: "200px" });
  plots.forEach((plot) => observer.observe(plot.place));
}

function show(index, view) {
  plots[index].view = view;
  document.querySelectorAll('.views [data-plot="' + index + '"]').forEach((button) => {
    button.setAttribute("aria-pressed", String(Number(button.dataset.view) === view));
  });
  draw(plots[index]);
}
