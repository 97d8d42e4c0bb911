// The page's words, from texts.LANGUAGE.json.

let words = {};
let spoken = "en";

export async function loadWords(language) {
  const reply = await fetch(new URL(`texts.${language}.json`, import.meta.url));
  words = await reply.json();
  spoken = language;
}

export function t(name, values = {}) {
  if (!(name in words)) throw new Error(`no text is called ${name}`);
  return words[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export const amount = (number) => Math.round(number).toLocaleString(spoken);

export const letter = (place) => String.fromCharCode(65 + place);
