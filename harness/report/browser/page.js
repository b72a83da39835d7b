// What happens when the page is there.

function dress() {
  document.documentElement.classList.toggle("dark", theme === "dark");
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function wear(other) {
  theme = other;
  dress();
  redraw();
}

dress();
sortable();
filterable();
recall();
fit();
addEventListener("resize", fit);
document.getElementById("theme").addEventListener("click", () => wear(theme === "dark" ? "light" : "dark"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => wear(event.matches ? "dark" : "light"));
document.querySelectorAll(".views button").forEach((button) => {
  button.addEventListener("click", () => show(Number(button.dataset.plot), Number(button.dataset.view)));
});
const sinceStart = () => String(Math.round(performance.now()));
// From here on the table answers: it is sorted and filtered.
document.documentElement.dataset.tableMs = sinceStart();

// Called when Plotly, by far the largest part of this page, is there.
function begin() {
  // What the reader sees first is drawn before anything else.
  plots.filter((plot) => plot.place.getBoundingClientRect().top < innerHeight).forEach((plot) => { plot.inView = true; draw(plot); });
  watch();
  drawLater();
  document.documentElement.dataset.readyMs = sinceStart();
}
