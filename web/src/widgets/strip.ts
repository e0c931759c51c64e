// A row or grid of examples, as images or small curves; each may be a button.
import type { DataDescription } from "../data/manifest";
import { h } from "./dom";
import type { ExampleView } from "./example_view";
import { isImage, smallView } from "./example_view";

export interface StripItem {
  values: ArrayLike<number>;
  label: string;
  caption?: string;
  onclick?: () => void;
}

/** Shows examples side by side; its cells are kept between calls. */
export class Strip {
  readonly element: HTMLElement;
  private cells: { holder: HTMLElement; view: ExampleView; caption: HTMLElement; item: StripItem }[] = [];

  constructor(private readonly data: DataDescription, label: string, kind = "") {
    this.element = h("div", { class: `strip ${kind}`, role: "group", "aria-label": label });
  }

  private cell(item: StripItem): (typeof this.cells)[number] {
    const view = smallView(this.data, item.label);
    const caption = h("span", { class: "caption" });
    const holder = item.onclick
      ? h("button", { type: "button", class: "cell" }, view.element, caption)
      : h("div", { class: "cell" }, view.element, caption);
    const cell = { holder, view, caption, item };
    if (item.onclick) holder.addEventListener("click", () => cell.item.onclick?.());
    this.element.append(holder);
    return cell;
  }

  show(items: readonly StripItem[]): void {
    for (const cell of this.cells.splice(items.length)) cell.holder.remove();
    items.forEach((item, i) => {
      this.cells[i] ??= this.cell(item);
      const cell = this.cells[i];
      cell.item = item;
      cell.view.show(item.values);
      cell.caption.textContent = item.caption ?? "";
      cell.caption.hidden = item.caption === undefined;
      cell.holder.setAttribute("aria-label", item.caption ? `${item.label}, ${item.caption}` : item.label);
    });
    this.element.classList.toggle("images", isImage(this.data) || this.data.columns.length > 0);
  }
}
