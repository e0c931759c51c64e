// Texts of the scenes in both languages.
import { language } from "../texts/texts";

export type Both = readonly [en: string, ko: string];

/** The text of a pair in the language of the page. */
export function both(texts: Both): string {
  return language.value === "ko" ? texts[1] : texts[0];
}
