// Uses the page as a reader would, and leaves what came of it in data-out of its body.
addEventListener("load", async () => {
  const out = {};
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const shown = () => rows.filter((row) => !row.hidden).map((row) => row.dataset.run);
  try {
    while (plots.some((plot) => !plot.drawn)) await wait(50);
  const filter = document.getElementById("filter");
  filter.value = "schedule=wsd lr>1e-3"; filter.dispatchEvent(new Event("input")); await wait(400);
  out.filtered = shown(); out.said = document.getElementById("shown").textContent;
  const picked = (trace) => trace.selectedpoints.map((k) => rows[trace.customdata[k]].dataset.run);
  out.picked = plots[0].place.data.filter((trace) => trace.selectedpoints).flatMap(picked);
  filter.value = "nosuch<3"; filter.dispatchEvent(new Event("input")); await wait(400); out.wrong = filter.className;
  clearAll(); out.cleared = shown().length;
  rows[0].dispatchEvent(new Event("mouseover", { bubbles: true }));
  out.lit = plots.filter((plot) => plot.place.querySelector(".highlight")).length;
  const parallel = plots.find(isParallel);
  await Plotly.restyle(parallel.place, { "dimensions[0].constraintrange": [[[-3, -2]]] }, [0]); await wait(300); out.brushed = shown();
  clearAll();
  document.querySelector('[data-plot="0"][data-view="1"]').click(); await wait(100); out.axis = plots[0].place.layout.xaxis.title.text;
  document.querySelector('.chip[data-value="pareto"]').click(); out.pareto = shown(); clearAll();
  columns.find((column) => column.dataset.key === "optim.lr").firstChild.click();
  out.sorted = Array.from(document.querySelectorAll("#runs tbody tr"), (row) => row.dataset.run);
  plots[0].place.emit("plotly_hover", { points: [{ customdata: 0, data: {} }], event: { clientX: 300, clientY: 300 } });
  out.tip = document.getElementById("tip").textContent;
  document.getElementById("theme").click(); out.theme = document.documentElement.className;
  } catch (error) { out.error = String(error); }
  document.body.dataset.out = JSON.stringify(out);
});
