
// A leaderboard: rows are filtered, and two entries are compared. Text is set, never markup.
{
  const byId = (id) => document.getElementById(id);
  const rows = Array.from(byId("ranking").tBodies[0].rows);
  const shows = (row, text, kind, copies) =>
    (!text || row.textContent.toLowerCase().includes(text)) &&
    (!kind || row.dataset.kind === kind) &&
    (!copies || row.dataset.copies === copies);
  const filter = () => {
    const text = byId("filter-text").value.trim().toLowerCase();
    const kind = byId("filter-kind").value;
    const copies = byId("filter-copies").value;
    for (const row of rows) row.hidden = !shows(row, text, kind, copies);
    const shown = rows.filter((row) => !row.hidden).length;
    byId("filter-count").textContent = `${shown} of ${rows.length} rows`;
  };
  for (const id of ["filter-text", "filter-kind", "filter-copies"]) {
    byId(id).addEventListener("input", filter);
  }
  byId("all-columns").addEventListener("change", (event) => {
    byId("ranking").classList.toggle("whole", event.target.checked);
  });
  filter();

  const cell = (tag, text, style = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (style) made.className = style;
    if (tag === "th") made.scope = "row";
    return made;
  };
  const pairOf = (metric, one, other) => metric.pairs[`${one},${other}`];
  const says = (pair, names) => {
    if (!pair) return "not compared";
    return pair.better === null ? "no difference shown" : `better: ${names[pair.better]}`;
  };
  const lineOf = (metric, one, other) => {
    const line = document.createElement("tr");
    const pair = one === other ? undefined : pairOf(metric, one, other);
    const names = ["first", "second"];
    line.append(
      cell("th", metric.label),
      cell("td", metric.values[one]),
      cell("td", metric.values[other]),
      cell("td", pair ? pair.difference : "–", "number"),
      cell("td", pair ? pair.p : "–", "number"),
      cell("td", says(pair, names)),
    );
    if (pair && pair.better !== null) line.className = "different";
    return line;
  };
  const sentence = (metrics, one, other) => {
    if (one === other) return "Choose two different entries.";
    const pairs = metrics.map((metric) => pairOf(metric, one, other)).filter(Boolean);
    if (!pairs.length) return "These entries were not compared: their differences are not known.";
    const count = (which) => pairs.filter((pair) => pair.better === which).length;
    return (
      `By ${metrics[0].label}: ${says(pairOf(metrics[0], one, other), ["the first", "the second"])}. ` +
      `Of ${pairs.length} metrics, the first is significantly better by ${count(0)}, the second by ` +
      `${count(1)}; ${count(null)} show no difference.`
    );
  };
  const data = byId("compared");
  if (data) {
    const metrics = JSON.parse(data.textContent);
    const choices = [byId("compare-one"), byId("compare-other")];
    const compareEntries = () => {
      const [one, other] = choices.map((choice) => Number(choice.value));
      byId("comparison").replaceChildren(...metrics.map((metric) => lineOf(metric, one, other)));
      byId("compare-words").textContent = sentence(metrics, one, other);
    };
    for (const choice of choices) choice.addEventListener("input", compareEntries);
    compareEntries();
  }
}
