// The form of a prompt that is run at once. What was typed last in this tab is there again, however its dialog was closed.
const KEY = "quick-prompt";

export function start(root) {
  const form = root.querySelector("form[data-quick]");
  const prompt = form.elements.prompt;
  const keep = () => sessionStorage.setItem(KEY, prompt.value);
  if (prompt.value !== prompt.defaultValue) keep(); // it was typed before this had come
  else if (!prompt.value) {
    prompt.value = sessionStorage.getItem(KEY) ?? "";
    prompt.select();
  }
  prompt.addEventListener("input", keep);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector("button[value=run]"));
  });
  form.addEventListener("submit", ({ submitter }) => submitter?.value === "rehearse" && (submitter.textContent = "Rehearsing…"));
}

if (document.querySelector("main form[data-quick]")) start(document.querySelector("main"));
