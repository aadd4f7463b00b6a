"use strict";
for (const moment of document.querySelectorAll("time[datetime]")) {
  const date = new Date(moment.dateTime);
  moment.title = moment.textContent;
  moment.textContent = moment.dataset.form === "full" ? date.toLocaleString() : date.toLocaleTimeString();
}
const rows = [...document.querySelectorAll(".span")];
const depth = (row) => Number(row.dataset.depth);
const byId = (id) => document.getElementById(id);

function hideFolded() {
  let above = Infinity;
  for (const row of rows) {
    if (depth(row) <= above) above = Infinity;
    row.classList.toggle("hidden", depth(row) > above);
    if (row.dataset.folded && above === Infinity) above = depth(row);
  }
}
function fold(row, folded) {
  if (folded) row.dataset.folded = "1"; else delete row.dataset.folded;
  const button = row.querySelector(".fold");
  if (button.textContent) button.textContent = folded ? "\u25b6" : "\u25bc";
}
for (const row of rows) {
  row.querySelector(".fold").addEventListener("click", (event) => {
    event.preventDefault();
    fold(row, !row.dataset.folded);
    hideFolded();
  });
}
function onClick(id, act) { const button = byId(id); if (button) button.addEventListener("click", act); }
onClick("open-all", () => rows.forEach((row) => { row.open = true; }));
onClick("close-all", () => rows.forEach((row) => { row.open = false; }));
onClick("fold-all", () => { rows.forEach((row) => fold(row, true)); hideFolded(); });
onClick("unfold-all", () => { rows.forEach((row) => fold(row, false)); hideFolded(); });
const aimed = byId(location.hash.slice(1));
if (aimed && rows.includes(aimed)) { aimed.open = true; aimed.scrollIntoView({ block: "center" }); }
const find = byId("find");
if (find) {
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    if (!wanted) { hideFolded(); return; }
    rows.forEach((row) => row.classList.toggle("hidden", !row.textContent.toLowerCase().includes(wanted)));
  });
}
