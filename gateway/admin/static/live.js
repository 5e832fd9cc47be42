// New records as they are written. Whatever a record holds becomes text, never markup.
"use strict";

const ROOM = 200;
const QUIET = new Set(["checkpoint", "start", "stop"]);

const table = document.getElementById("records");
const state = document.getElementById("state");
const hold = document.getElementById("hold");
const asked = new URLSearchParams(window.location.search);
const shown = new Set([...table.rows].map((row) => row.dataset.place));
let held = null;

function cell(row, ...children) {
  const made = document.createElement("td");
  made.append(...children.filter((each) => each !== null && each !== undefined));
  row.append(made);
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function verdict(record) {
  if (record.decision === "permit") return element("span", "Permitted", "badge good");
  return record.decision === "refuse" ? element("span", "Refused", "badge bad") : null;
}

function link(id) {
  if (!id) return null;
  const made = document.createElement("a");
  made.href = "/requests?" + new URLSearchParams({ id });
  made.append(element("code", id.slice(0, 8)), element("span", " " + id.slice(8), "hidden"));
  return made;
}

function rowOf(record) {
  const row = document.createElement("tr");
  row.dataset.place = record.chain + ":" + record.seq;
  row.className = "new";
  const time = element("time", String(record.time).slice(11, 19));
  time.dateTime = record.time;
  cell(row, time);
  cell(row, verdict(record));
  for (const name of ["partner", "customer", "operation", "appointment"]) cell(row, record[name]);
  cell(row, record.code ? element("code", record.code) : record.outcome);
  cell(row, record.event);
  cell(row, link(record.request_id));
  return row;
}

function show(record) {
  const place = record.chain + ":" + record.seq;
  if (shown.has(place) || (QUIET.has(record.event) && !asked.get("event"))) return;
  shown.add(place);
  if (held !== null) {
    held.push(record);
    held.splice(0, held.length - ROOM);
    hold.textContent = "Go on (" + held.length + " new)";
    return;
  }
  table.prepend(rowOf(record));
  while (table.rows.length > ROOM) {
    shown.delete(table.lastElementChild.dataset.place);
    table.lastElementChild.remove();
  }
}

hold.addEventListener("click", () => {
  if (held === null) {
    held = [];
    hold.textContent = "Go on";
    return;
  }
  const waiting = held;
  held = null;
  hold.textContent = "Hold";
  for (const record of waiting) {
    shown.delete(record.chain + ":" + record.seq);
    show(record);
  }
});

function follow() {
  const query = new URLSearchParams([...asked].filter(([, value]) => value));
  query.set("recent", "50");
  const stream = new EventSource("/audit/stream?" + query);
  stream.addEventListener("open", () => { state.textContent = "Live: new records appear by themselves."; });
  stream.addEventListener("record", (event) => show(JSON.parse(event.data)));
  stream.addEventListener("lost", () => { state.textContent = "Records came faster than they could be shown; some are left out."; });
  stream.addEventListener("error", () => { state.textContent = "The connection is lost; trying again."; });
}

hold.hidden = false;
follow();
