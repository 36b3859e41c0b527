// Runs in a page of `olmoe trace` with the policies bh and native: what a reader sees and does, against the page's data.
(() => {
  const faults = [];
  const check = (holds, what) => { if (!holds) faults.push(what); };
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const counts = data.policies.map((policy) =>
    policy.layers.map((layer) => layer.experts.map((e) => e.length)));
  const largest = Math.max(...counts.flat(2));
  const sections = all("#policies > .policy");
  const token = (p, l, t) => sections[p].querySelector(`[data-l="${l}"][data-t="${t}"]`);
  const send = (target, type, Kind = MouseEvent, more = {}) => target.dispatchEvent(new Kind(type, more));

  // Two policies side by side, every layer the text once more; the more experts, the stronger the colour.
  check(sections.length === 2, "two policies");
  const shades = new Map();
  counts.forEach((layers, p) => layers.forEach((row, l) => {
    const spans = all(`.token[data-l="${l}"]`, sections[p]);
    const text = spans.map((s) => s.textContent).join("");
    check(text === data.tokens.map((t) => t.text).join(""), `the text of ${p}, ${l}`);
    row.forEach((count, t) => {
      const colour = getComputedStyle(spans[t]).backgroundColor;
      const alpha = colour.startsWith("rgba") ? +colour.split(",")[3].replace(")", "") : 1;
      const right = Math.abs(alpha - 0.75 * count / largest) < 0.004;
      check(right, `the colour of ${p}, ${l}, ${t}: ${colour} for ${count}`);
      check(spans[t].title === `${count} experts`, `the title of ${p}, ${l}, ${t}`);
      shades.set(count, colour);
    });
  }));
  check(new Set(shades.values()).size === shades.size, "another count, another colour");

  // What is shown of a token: its experts under each policy, and the two that came next.
  const shows = (l, t) => {
    const where = `of layer ${l}, token ${t}`;
    check(document.querySelector("#details h1").textContent.startsWith(`token ${t} `), `the heading ${where}`);
    check(document.querySelector("#details h1").textContent.endsWith(`layer ${l}`), `the heading's layer ${where}`);
    const marked = all(".token.on").map((s) => `${s.dataset.l},${s.dataset.t}`);
    check(marked.join(" ") === `${l},${t} ${l},${t}`, `the marks ${where}: ${marked}`);
    const boxes = all("#details .policy");
    check(boxes.length === 2, `both policies ${where}`);
    boxes.forEach((box, p) => {
      const layer = data.policies[p].layers[l];
      const ids = layer.experts[t];
      const rows = all("tr", box).slice(1).map((row) => all("td", row).map((cell) => cell.textContent));
      const logits = layer.logits[t];
      const byLogit = logits.map((x, e) => e).sort((a, b) => logits[b] - logits[a] || a - b);
      const listed = byLogit.slice(0, ids.length + 2);
      check(rows.map((row) => row[1]).join() === listed.join(), `the experts ${where}, ${p}`);
      rows.forEach((row, i) => {
        const e = byLogit[i];
        const place = ids.indexOf(e);
        const others = logits.filter((x, j) => ids.includes(j) !== (place >= 0));
        const margin = logits[e] - (place >= 0 ? Math.max(...others) : Math.min(...others));
        const close = Math.abs(+row[3] - margin) <= 1e-3 * Math.abs(margin) + 1e-6;
        check(close, `the margin of ${e} ${where}, ${p}: ${row[3]}`);
        const weight = row[row.length - 1];
        const right = place < 0 ? weight === "not chosen" : Math.abs(+weight - layer.weights[t][place]) < 1e-3;
        check(right, `the weight of ${e} ${where}, ${p}`);
      });
      const charts = all(".chart", box);
      check(charts.length === (p === 0 ? 2 : 1), `the charts ${where}, ${p}`);
      check(all("polyline", box).length === (p === 0 ? 1 : 0), `the critical line ${where}, ${p}`);
      for (const chart of charts)
        check(all('circle[fill="var(--chosen)"]', chart).length === ids.length, `the dots ${where}, ${p}`);
    });
  };
  const last = data.tokens.length - 1;
  shows(0, last);  // at first
  send(token(0, 1, 2), "mouseenter");
  shows(1, 2);
  send(token(1, 3, 1), "focus", FocusEvent);
  shows(3, 1);
  send(token(1, 0, 3), "click");  // keeps it
  send(token(0, 2, 1), "mouseenter");
  shows(0, 3);
  send(document, "keydown", KeyboardEvent, {key: "Escape"});  // lets it go
  send(token(0, 2, 1), "mouseenter");
  shows(2, 1);
  document.title = faults.length ? "FAULTS: " + faults.join("; ") : "the page is as it must be";
})();
