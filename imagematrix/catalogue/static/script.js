// Search and filters, buttons that copy, links to a tag. Every page works without it.
(() => {
  "use strict";
  const $ = (selector) => [...document.querySelectorAll(selector)];

  const said = document.getElementById("said");
  const copied = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    // A server without TLS: the older way.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden-text";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const button of $("[data-copy]")) {
    const label = button.querySelector("span");
    let timer = 0;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copied(button.dataset.copy).catch(() => false);
      label.textContent = done ? "Copied" : "Failed";
      said.textContent = done ? "Copied to the clipboard" : "The browser did not allow to copy";
      button.classList.toggle("done", done);
      clearTimeout(timer);
      timer = setTimeout(() => {
        label.textContent = "Copy";
        said.textContent = "";
        button.classList.remove("done");
      }, 2000);
    });
  }

  // A link to a tag opens it.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  window.addEventListener("hashchange", open);
  open();

  const form = document.getElementById("filters");
  if (!form) return;
  form.hidden = false;
  const cards = $("[data-card]");
  const count = document.getElementById("count");
  const empty = document.getElementById("empty");
  const selects = [...form.querySelectorAll("select")];
  const search = form.elements.namedItem("q");

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const fits =
        selects.every((select) => !select.value || card.dataset[select.name] === select.value) &&
        words.every((word) => card.dataset.text.includes(word));
      card.hidden = !fits;
      shown += fits;
    }
    const all = shown === cards.length;
    for (const group of $("[data-group]")) {
      group.hidden = !group.querySelector("[data-card]:not([hidden])");
      if (group instanceof HTMLDetailsElement && !all) group.open = !group.hidden;
    }
    count.textContent = all ? `${shown} images` : `${shown} of ${cards.length} images`;
    empty.hidden = shown > 0;
    // An address to share. What is empty stays out of it.
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
    try {
      history.replaceState(null, "", `${location.pathname}${query && `?${query}`}${location.hash}`);
    } catch {
      // Some browsers do not allow it for files.
    }
  };

  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", apply);
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
})();
