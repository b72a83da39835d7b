"use strict";
// Light and dark: the inks, the scale on which the objective is coloured, and a figure of the harness in the theme's colours.

// Best first: on light the best is dark, on dark it is bright (viridis, without the end that the background would swallow).
const SCALES = {
  light: ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#c5d93a"],
  dark: ["#fde725", "#7ad151", "#22a884", "#2a788e", "#4f74b8", "#7d64c0"],
};
const INK = {
  light: { text: "#1c2128", soft: "#5b6470", line: "#e6e9ed", zero: "#c9ced6", card: "#ffffff", step: "#1c2128", out: "#c3c8cf" },
  dark: { text: "#e4e8ee", soft: "#98a2b0", line: "#272d36", zero: "#3b434f", card: "#171b21", step: "#e4e8ee", out: "#424a56" },
};
const FONT = getComputedStyle(document.body).fontFamily;
let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

function mix(stops, share) {
  const at = Math.min(share, 0.9999) * (stops.length - 1), low = Math.floor(at), rest = at - low;
  const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const channels = [0, 1, 2].map((k) => Math.round(part(stops[low], k) * (1 - rest) + part(stops[low + 1], k) * rest));
  return "rgb(" + channels.join(",") + ")";
}

function coloured(trace) {
  const meta = trace.meta || {}, result = Object.assign({}, trace);
  if (trace.line || trace.mode === "lines") {
    const line = Object.assign({}, trace.line);
    if (trace.mode === "lines" && !line.color) line.color = "shade" in meta ? mix(SCALES[theme], meta.shade) : INK[theme].step;
    result.line = line;
  }
  // A curve of one point.
  if ("run" in meta && trace.mode === "markers") result.marker = { color: result.line.color || mix(SCALES[theme], meta.shade) };
  if (trace.type === "parcoords") {
    // Infeasible runs are below zero, and grey.
    const stops = SCALES[theme].slice().reverse();
    result.line = Object.assign({}, trace.line, {
      colorscale: [[0, INK[theme].out], [0.499, INK[theme].out], ...stops.map((colour, k) => [0.5 + k / (stops.length - 1) / 2, colour])], showscale: false,
    });
    result.labelfont = { color: INK[theme].text, size: 12 };
    result.rangefont = { color: "rgba(0,0,0,0)" };
    result.tickfont = { color: INK[theme].soft, size: 11 };
    result.unselected = { line: { color: INK[theme].zero, opacity: 0.18 } };
  }
  return result;
}

// Of parallel coordinates, in pixels: the words beside the first axis, or half of those above it.
function leftOf(first) {
  return Math.max(60, ...(first.ticktext || []).map((text) => 14 + 6.5 * text.length));
}

function themedLayout(figure) {
  const ink = INK[theme], own = figure.layout, parallel = figure.data[0].type === "parcoords";
  const axis = (mine) => Object.assign(
    { gridcolor: ink.line, linecolor: ink.zero, zeroline: false, automargin: true, ticks: "", exponentformat: "SI" },
    mine, { title: Object.assign({ font: { size: 12, color: ink.soft }, standoff: 8 }, mine && mine.title) });
  const result = Object.assign({}, own, {
    autosize: true, paper_bgcolor: ink.card, plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: ink.soft }, hovermode: "closest", dragmode: "zoom", selectionrevision: 0,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink.soft, activecolor: ink.text },
    margin: parallel ? { l: leftOf(figure.data[0].dimensions[0]), r: 60, t: 52, b: 24 } : { l: 56, r: 16, t: own.showlegend === false ? 12 : 30, b: 44 },
    legend: { orientation: "h", x: 0, y: 1.01, xanchor: "left", yanchor: "bottom", font: { size: 11.5, color: ink.soft } },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  });
  if (own.coloraxis) {
    const stops = SCALES[theme];
    result.coloraxis = Object.assign({}, own.coloraxis, { colorscale: stops.map((colour, i) => [i / (stops.length - 1), colour]) });
  }
  return result;
}
