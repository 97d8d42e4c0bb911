// The page's words, from texts.LANGUAGE.json.

let words = {};

export async function loadWords(language) {
  const reply = await fetch(new URL(`texts.${language}.json`, import.meta.url));
  words = await reply.json();
}

export function t(name, values = {}) {
  if (!(name in words)) throw new Error(`no text is called ${name}`);
  return words[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export const letter = (place) => String.fromCharCode(65 + place);
