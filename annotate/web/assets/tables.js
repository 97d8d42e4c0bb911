// Names the search fields of Gradio's tables: a title alone is not read out by every screen reader.

function name() {
  for (const field of document.querySelectorAll("input.search-input:not([aria-label])")) {
    field.setAttribute("aria-label", field.title || field.placeholder);
  }
}

new MutationObserver(name).observe(document.documentElement, { childList: true, subtree: true });
name();
