#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fdroute/detail/number/to_text.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/json_output.hpp"
#include "cli/svg.hpp"
#include "cli/trace.hpp"

namespace olmoe {
namespace {

using Json = nlohmann::ordered_json;

/// The double whose shortest text is that of the float: it is written with fewer digits.
double shortest(float value) {
  const std::string text = fdroute::detail::to_text(value);
  double result = 0.0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

/// Six significant digits.
double rounded(double value) {
  std::array<char, 32> text;
  const int length = std::snprintf(text.data(), text.size(), "%.6g", value);
  double result = 0.0;
  std::from_chars(text.data(), text.data() + length, result);
  return result;
}

/// The rows of an array (tokens, columns), each number by `write`.
template <class T, class Write>
Json rows(const std::vector<T>& values, std::size_t columns, const Write& write) {
  Json all = Json::array();
  for (std::size_t begin = 0; begin < values.size(); begin += columns) {
    Json row = Json::array();
    for (std::size_t i = 0; i < columns; ++i) row.push_back(write(values[begin + i]));
    all.push_back(std::move(row));
  }
  return all;
}

Json layer_json(const TracedLayer& layer) {
  const ExecutedRouting& routing = layer.routing;
  const auto experts = static_cast<std::size_t>(layer.experts());
  const auto capacity = static_cast<std::size_t>(routing.capacity);
  Json chosen = Json::array();
  Json weights = Json::array();
  for (std::size_t t = 0; t < routing.counts.size(); ++t) {
    Json ids = Json::array();
    Json factors = Json::array();
    for (std::size_t i = 0; i < static_cast<std::size_t>(routing.counts[t]); ++i) {
      ids.push_back(routing.experts[t * capacity + i]);
      factors.push_back(shortest(routing.weights[t * capacity + i]));
    }
    chosen.push_back(std::move(ids));
    weights.push_back(std::move(factors));
  }
  Json critical = Json::array();
  for (const double value : layer.critical) critical.push_back(rounded(value));
  return {{"experts", chosen},
          {"weights", weights},
          {"logits", rows(routing.logits, experts, shortest)},
          {"p", layer.p.empty() ? Json() : rows(layer.p, experts, rounded)},
          {"critical", layer.critical.empty() ? Json() : critical}};
}

/// The data as text that can stand within <script>: no < at all.
std::string data_text(std::span<const TracedToken> tokens, std::span<const TracedPolicy> policies,
                      const std::string& model) {
  Json data{{"schema", json_schema}, {"command", "trace"}, {"model", model}};
  data["tokens"] = Json::array();
  for (const TracedToken& token : tokens)
    data["tokens"].push_back({{"id", token.id}, {"text", readable(token.bytes)}});
  data["policies"] = Json::array();
  for (const TracedPolicy& policy : policies) {
    Json layers = Json::array();
    for (const TracedLayer& layer : policy.layers) layers.push_back(layer_json(layer));
    data["policies"].push_back({{"policy", policy.policy}, {"layers", layers}});
  }
  const std::string json = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string text;
  for (const char c : json) text += c == '<' ? "\\u003c" : std::string(1, c);
  return text;
}

constexpr const char* page_style = R"css(
:root { color-scheme: light dark; --ink: #1d2329; --paper: #ffffff; --soft: #f1f3f5; --line: #c9ced4;
  --hue: 37, 99, 168; --chosen: #2563a8; --other: #a0a6ad; --critical: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #15181b; --soft: #1f2428;
  --line: #3d444b; --hue: 88, 157, 230; --chosen: #6cb0f5; --other: #6b737b; --critical: #ff7b6b; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.15rem; margin: 0 0 .25rem; }
h2 { font-size: .95rem; margin: 0 0 .5rem; font-family: ui-monospace, monospace;
  overflow-wrap: anywhere; font-weight: 600; }
h3 { font-size: .8rem; margin: .6rem 0 .2rem; font-weight: 600; }
p { margin: 0 0 .6rem; max-width: 70ch; }
.policies { display: flex; flex-wrap: wrap; gap: 1rem; }
.policy { flex: 1 1 340px; min-width: 0; }
.layer { display: grid; grid-template-columns: 4.6rem 1fr; border-top: 1px solid var(--line);
  padding: .35rem 0; }
.layer > div:first-child { font-size: .75rem; color: var(--ink); opacity: .8; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.75; }
.token { cursor: pointer; border-radius: 3px; padding: .1em 0; }
.token:hover, .token:focus { outline: 2px solid var(--ink); outline-offset: -1px; }
.token.on { outline: 2px solid var(--critical); outline-offset: -1px; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem; align-items: center; font-size: .75rem;
  margin-bottom: .5rem; }
.legend span { padding: .1rem .45rem; border-radius: 3px; }
.details { position: sticky; bottom: 0; background: var(--soft); border: 1px solid var(--line);
  border-radius: 8px; padding: .6rem .8rem; margin-top: 1rem; max-height: 62vh; overflow: auto; }
@media (max-width: 700px) { .details { max-height: 46vh; } .details h1 { font-size: 1rem; } }
.charts { display: flex; flex-wrap: wrap; gap: .8rem; }
.chart { flex: 1 1 300px; max-width: 460px; min-width: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 10px; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .1rem .55rem .1rem 0; font-weight: 400; white-space: nowrap; }
th { opacity: .75; }
.wide { overflow-x: auto; }
)css";

constexpr const char* page_script = R"js(
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const svgNames = "http://www.w3.org/2000/svg";
function make(name, attributes, text) {
  const element = document.createElement(name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  return element;
}
function draw(parent, name, attributes, text) {
  const element = document.createElementNS(svgNames, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}
const number = (x) => x === 0 ? "0" : Math.abs(x) >= 0.001 && Math.abs(x) < 1e5
  ? String(+x.toPrecision(4)) : x.toExponential(2);
const breakable = (policy) => policy.replaceAll(",", ",\u200b");
let most = 1;
for (const policy of data.policies)
  for (const layer of policy.layers)
    for (const chosen of layer.experts) most = Math.max(most, chosen.length);
const shade = (count) => `rgba(var(--hue), ${(0.75 * count / most).toFixed(3)})`;

// The experts of a token, largest logit first, and how far each is from being chosen or not.
function ranked(layer, t) {
  const logits = layer.logits[t];
  const chosen = new Map(layer.experts[t].map((e, i) => [e, layer.weights[t][i]]));
  const all = logits.map((logit, expert) => ({expert, logit,
    p: layer.p ? layer.p[t][expert] : null, weight: chosen.get(expert), chosen: chosen.has(expert)}));
  all.sort((a, b) => b.logit - a.logit || a.expert - b.expert);
  const out = all.filter((e) => !e.chosen).map((e) => e.logit);
  const inside = all.filter((e) => e.chosen).map((e) => e.logit);
  for (const e of all) {
    if (e.chosen) e.margin = out.length ? e.logit - Math.max(...out) : null;
    else e.margin = inside.length ? e.logit - Math.min(...inside) : null;
  }
  return all;
}

// Round numbers from low to high, about four; whole ones of logarithms.
function ticks(low, high, isLog) {
  let step = (high - low) / 4;
  const base = 10 ** Math.floor(Math.log10(step));
  step = base * [1, 2, 5, 10].find((m) => m * base >= step);
  if (isLog) step = Math.max(1, Math.round(step));
  const all = [];
  for (let i = Math.ceil(low / step); i * step <= high; ++i) all.push(i * step);
  return all;
}

function chart(title, points, line, isLog) {
  const box = make("div", {class: "chart"});
  box.append(make("h3", {}, title));
  const w = 400, h = 170, left = 44, top = 8, bottom = 26;
  const svg = draw(box, "svg", {viewBox: `0 0 ${w} ${h}`, role: "img"});
  const values = points.map((p) => p.y).concat(line ? line : []);
  let low = Math.min(...values), high = Math.max(...values);
  if (high === low) { high += 1; low -= 1; }
  const x = (i) => left + (w - left - 8) * (i + 0.5) / points.length;
  const y = (v) => top + (h - top - bottom) * (high - v) / (high - low);
  for (const v of ticks(low, high, isLog)) {
    draw(svg, "text", {x: left - 5, y: y(v) + 3, "text-anchor": "end"},
      isLog ? (v === 0 ? "1" : "1e" + v) : number(v));
    draw(svg, "line", {x1: left, x2: w - 8, y1: y(v), y2: y(v), stroke: "var(--line)"});
  }
  for (let k = 1; k <= points.length; k = k === 1 ? 8 : k + 8)
    draw(svg, "text", {x: x(k - 1), y: h - 12, "text-anchor": "middle"}, k);
  draw(svg, "text", {x: (left + w) / 2, y: h - 1, "text-anchor": "middle"}, "rank");
  if (line)
    draw(svg, "polyline", {fill: "none", stroke: "var(--critical)", "stroke-width": 1.5,
      points: line.map((v, i) => `${x(i)},${y(v)}`).join(" ")});
  points.forEach((p, i) => {
    const dot = draw(svg, "circle", {cx: x(i), cy: y(p.y), r: 3,
      fill: p.chosen ? "var(--chosen)" : "var(--other)"});
    draw(dot, "title", {}, p.title);
  });
  return box;
}

const details = document.getElementById("details");
function show(l, t) {
  for (const old of document.querySelectorAll(".token.on")) old.classList.remove("on");
  for (const token of document.querySelectorAll(`[data-l="${l}"][data-t="${t}"]`))
    token.classList.add("on");
  details.replaceChildren(make("h1", {}, `token ${t} ${JSON.stringify(data.tokens[t].text)} ` +
    `(id ${data.tokens[t].id}), layer ${l}`));
  const both = make("div", {class: "policies"});
  for (const policy of data.policies) {
    const layer = policy.layers[l];
    const experts = ranked(layer, t);
    const box = make("div", {class: "policy"});
    box.append(make("h2", {}, breakable(policy.policy)));
    const charts = make("div", {class: "charts"});
    const titled = (e) => `expert ${e.expert}: logit ${number(e.logit)}` +
      (e.p === null ? "" : `, p ${number(e.p)}`) + (e.chosen ? ", chosen" : "");
    charts.append(chart(`${layer.experts[t].length} of ${experts.length} experts, by logit`,
      experts.map((e) => ({y: e.logit, chosen: e.chosen, title: titled(e)})), null, false));
    if (layer.p) {
      const sorted = experts.slice().sort((a, b) => a.p - b.p);
      const log = (p) => Math.log10(Math.max(p, 1e-45));
      charts.append(chart(layer.critical ? "sorted p-values and the critical line, log scale"
        : "sorted p-values, log scale",
        sorted.map((e) => ({y: log(e.p), chosen: e.chosen, title: titled(e)})),
        layer.critical ? layer.critical.map(log) : null, true));
    }
    box.append(charts);
    const wide = make("div", {class: "wide"});
    const table = make("table", {});
    const head = make("tr", {});
    const names = ["rank", "expert", "logit", "margin"].concat(layer.p ? ["p"] : [],
      layer.critical ? ["critical"] : [], ["weight"]);
    for (const name of names) head.append(make("th", {}, name));
    table.append(head);
    experts.slice(0, Math.min(experts.length, layer.experts[t].length + 2)).forEach((e, i) => {
      const row = make("tr", {});
      const cells = [i + 1, e.expert, number(e.logit), e.margin === null ? "" : number(e.margin)]
        .concat(layer.p ? [number(e.p)] : [], layer.critical ? [number(layer.critical[i])] : [],
          [e.chosen ? number(e.weight) : "not chosen"]);
      for (const cell of cells) row.append(make("td", {}, cell));
      table.append(row);
    });
    wide.append(table);
    box.append(wide);
    both.append(box);
  }
  details.append(both);
}

let pinned = false;
const legend = document.getElementById("legend");
legend.append(make("span", {}, "experts:"));
for (let i = 0; i <= Math.min(most, 8); ++i) {
  const count = Math.round(most * i / Math.min(most, 8));
  legend.append(make("span", {style: `background: ${shade(count)}`}, count));
}
const columns = document.getElementById("policies");
for (const policy of data.policies) {
  const column = make("section", {class: "policy"});
  column.append(make("h2", {}, breakable(policy.policy)));
  policy.layers.forEach((layer, l) => {
    const row = make("div", {class: "layer"});
    const counts = layer.experts.map((chosen) => chosen.length);
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length;
    const name = make("div", {}, `layer ${l}`);
    name.append(make("br", {}), `mean ${mean.toFixed(2)}`);
    row.append(name);
    const text = make("div", {class: "text"});
    data.tokens.forEach((token, t) => {
      const span = make("span", {class: "token", tabindex: "0", "data-l": l, "data-t": t,
        title: `${counts[t]} experts`, style: `background: ${shade(counts[t])}`}, token.text);
      span.addEventListener("mouseenter", () => { if (!pinned) show(l, t); });
      span.addEventListener("focus", () => { if (!pinned) show(l, t); });
      span.addEventListener("click", () => { pinned = true; show(l, t); });
      text.append(span);
    });
    row.append(text);
    column.append(row);
  });
  columns.append(column);
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") pinned = false; });
show(0, data.tokens.length - 1);
)js";

}  // namespace

std::string trace_page(std::span<const TracedToken> tokens, std::span<const TracedPolicy> policies,
                       const std::string& model) {
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<title>olmoe trace: " +
         escape_markup(readable(model)) + "</title>\n<style>" + page_style +
         "</style>\n</head>\n<body>\n<h1>How " + escape_markup(readable(model)) +
         " routes this text</h1>\n"
         "<p>Every row is the text once more, as one layer routes it: the stronger a token's "
         "colour, the more experts it gets. Point at a token to see what decided; click to keep "
         "it, Escape to let "
         "go.</p>\n"
         "<div class=\"legend\" id=\"legend\"></div>\n<div class=\"policies\" "
         "id=\"policies\"></div>\n<div class=\"details\" id=\"details\"></div>\n"
         "<script type=\"application/json\" id=\"data\">" +
         data_text(tokens, policies, model) + "</script>\n<script>" + page_script +
         "</script>\n</body>\n</html>\n";
}

}  // namespace olmoe
