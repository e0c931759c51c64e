// Formulas in TeX, which the build turns into MathML.
declare module "*.tex" {
  const formulas: Record<string, string>;
  export default formulas;
}
