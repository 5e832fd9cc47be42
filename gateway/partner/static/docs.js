"use strict";
// Sends what a form says to the server that the page came from, and shows the answer as text.

const parts = (form, place) =>
  [...form.querySelectorAll(`[data-in="${place}"]`)].filter((each) => each.value !== "");

const address = (form) => {
  let path = form.dataset.path;
  for (const each of parts(form, "path")) path = path.replace(`{${each.dataset.name}}`, each.value);
  const query = parts(form, "query").flatMap((each) =>
    (each.dataset.many ? each.value.split(/\s+/) : [each.value])
      .filter((value) => value !== "")
      .map((value) => `${each.dataset.name}=${encodeURIComponent(value)}`)
  );
  return query.length ? `${path}?${query.join("&")}` : path;
};

const headers = (form) => {
  const given = parts(form, "header").map((each) => [each.dataset.name, each.value]);
  const token = document.getElementById("token").value.trim();
  if (form.dataset.guarded && token) given.push(["Authorization", `Bearer ${token}`]);
  const media = form.querySelector("[data-media]");
  if (media) given.push(["Content-Type", media.value]);
  return given;
};

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
};

const send = async (form) => {
  const shown = form.querySelector("output");
  const body = form.querySelector("[data-body]");
  shown.classList.remove("failed");
  shown.textContent = "…";
  try {
    const answer = await fetch(address(form), {
      method: form.dataset.method,
      headers: headers(form),
      body: body ? body.value : undefined,
      credentials: "omit",
      redirect: "error",
      cache: "no-store",
    });
    const lines = [...answer.headers].map(([name, value]) => `${name}: ${value}`);
    shown.classList.toggle("failed", !answer.ok);
    shown.textContent = [answer.status, ...lines, "", pretty(await answer.text())].join("\n");
  } catch (fault) {
    shown.classList.add("failed");
    shown.textContent = String(fault);
  }
};

for (const form of document.querySelectorAll("form[data-path]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}
