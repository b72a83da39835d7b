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
  const ask = async (words) => { filter.value = words; filter.dispatchEvent(new Event("input")); await wait(300); return shown(); };
  const said = document.getElementById("not-understood");
  await ask("nosuch<3 lr < abc"); out.wrong = [filter.className, ...said.textContent.split(". ")];
  out.rounded = await ask("lr=" + rows[0].cells[columns.findIndex((column) => column.dataset.key === "optim.lr")].textContent);
  out.units = await ask("tokens >= 1,5 M  schedule != linear"); out.hash = location.hash;
  await ask("lr > 9e9"); out.none = [document.getElementById("none-left").hidden, document.getElementById("shown").textContent];
  location.hash = "#state=pruned,failed&sort=-optim.lr"; await wait(300); out.recalled = shown();
  out.recalledSort = columns.find((column) => column.dataset.key === "optim.lr").getAttribute("aria-sort");
  clearAll(); sortBy("");
  rows[1].click(); const more = document.querySelector("#runs .more"); out.more = more.textContent; out.curves = more.querySelectorAll("polyline").length; rows[1].click();
  const table = document.getElementById("runs");
  out.widths = [table.scrollWidth, table.parentElement.clientWidth]; out.leftOut = document.getElementById("left-out").textContent;
  clearAll(); out.cleared = shown().length;
  rows[0].dispatchEvent(new Event("mouseover", { bubbles: true }));
  out.lit = plots.filter((plot) => plot.place.querySelector(".highlight")).length;
  const parallel = plots.find(isParallel);
  out.bestLine = parallel.place.querySelectorAll(".highlight .best").length;
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
