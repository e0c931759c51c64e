// All texts of the user interface, English and Korean, in one table.
import { Signal } from "../state";
import type { Sentence } from "../data/manifest";

export type Language = "en" | "ko";

const TABLE = {
  "tab.explore": ["Explore", "둘러보기"],
  "tab.input": ["One input", "입력 하나"],
  "tab.features": ["Features", "특징"],
  "tab.between": ["Between", "사이"],
  "tab.theory": ["Theory", "이론"],
  "tab.run": ["This run", "이 모델"],
  "tabs": ["Views", "보기"],
  "language": ["Language", "언어"],
  "theme": ["Colours", "색"],
  "theme.auto": ["As the system", "시스템 설정"],
  "theme.light": ["Light", "밝게"],
  "theme.dark": ["Dark", "어둡게"],
  "help": ["Keys", "단축키"],
  "close": ["Close", "닫기"],
  "loading": ["Reading the model …", "모델을 읽는 중 …"],
  "computing": ["Computing …", "계산 중 …"],
  "failed": ["This page could not start: {reason}", "페이지를 열 수 없습니다: {reason}"],
  "no.wasm": [
    "this browser has no WebAssembly, so the networks of this file cannot be computed in it: use another browser, or tightbound explore, whose server computes them.",
    "이 브라우저에는 WebAssembly가 없어 파일 안의 신경망을 계산할 수 없으니, 다른 브라우저를 쓰거나 서버가 계산하는 tightbound explore를 쓰세요.",
  ],
  "no.wasm.served": [
    "This browser has no WebAssembly, so the server computes the networks.",
    "이 브라우저에는 WebAssembly가 없어 서버가 신경망을 계산합니다.",
  ],
  "plane.label": [
    "Latent plane: {x} to the right, {y} up. Arrow keys move z.",
    "잠재 평면: 오른쪽은 {x}, 위쪽은 {y}. 화살표 키로 z를 옮깁니다.",
  ],
  "plane.axes": ["Axes", "축"],
  "plane.horizontal": ["Right", "가로"],
  "plane.vertical": ["Up", "세로"],
  "plane.features": ["Two features", "두 특징"],
  "plane.components": ["Principal components", "주성분"],
  "plane.component": ["Component {k}", "주성분 {k}"],
  "plane.mode": ["Pointer", "포인터"],
  "plane.hand": ["Move z", "z 옮기기"],
  "plane.pan": ["Pan", "이동"],
  "plane.lasso": ["Lasso", "올가미"],
  "plane.reset": ["Whole plane", "전체 보기"],
  "plane.zoom.in": ["Zoom in", "확대"],
  "plane.zoom.out": ["Zoom out", "축소"],
  "plane.layers": ["Show", "표시"],
  "plane.points": ["Codes of the data", "데이터의 코드"],
  "plane.prior": ["p(z)", "p(z)"],
  "plane.holes": ["Holes", "빈 곳"],
  "plane.names": ["Names", "이름"],
  "plane.contours": [
    "Lines: regions that hold 50, 90 and 99 % of p(z) in this plane.",
    "선: 이 평면에서 p(z)의 50, 90, 99 %를 담는 영역.",
  ],
  "plane.contours.draws": [
    "Lines: regions that hold 50, 90 and 99 % of p(z) in this plane, by kernel density of {n} draws, bandwidth {h}.",
    "선: 이 평면에서 p(z)의 50, 90, 99 %를 담는 영역. 표본 {n}개의 커널 밀도, 대역폭 {h}.",
  ],
  "plane.no.prior": [
    "This prior has no density in a plane: {reason}",
    "이 사전분포는 평면 위의 밀도가 없습니다: {reason}",
  ],
  "plane.no.bound": [
    "This run was trained without a prior: the lines show N(0, I), from which new z would be drawn.",
    "사전분포 없이 학습한 모델입니다. 선은 새 z를 뽑을 때 쓸 N(0, I)입니다.",
  ],
  "holes.text": [
    "Hatched: holes, {share} of the mass of p(z). Here p(z) is among its densest {region} and the density of the codes (Gaussian kernel, bandwidth {h}) is below {threshold} of it.",
    "빗금: 빈 곳, p(z) 질량의 {share}. p(z)가 가장 짙은 {region} 안에 있지만 코드의 밀도(가우스 커널, 대역폭 {h})가 그 {threshold}에 못 미치는 곳입니다.",
  ],
  "plane.point": ["Data point", "데이터 점"],
  "holes.none": [
    "No holes: wherever p(z) is among its densest {region}, the density of the codes (Gaussian kernel, bandwidth {h}) is at least {threshold} of it.",
    "빈 곳이 없습니다. p(z)가 가장 짙은 {region} 안에서는 어디서나 코드의 밀도(가우스 커널, 대역폭 {h})가 그 {threshold} 이상입니다.",
  ],
  "plane.moving": [
    "While the plane is moved, a random part of the {n} points is drawn where all of them would take longer than a frame.",
    "평면을 움직이는 동안, 점 {n}개를 모두 그리면 한 프레임보다 오래 걸리는 곳에서는 무작위로 고른 일부만 그립니다.",
  ],
  "legend": ["Labels", "레이블"],
  "legend.all": ["All", "모두"],
  "at.hand": ["Decoded at z", "z에서 복원"],
  "mean.of": ["E[x|z]", "E[x|z]"],
  "decoded.not.finite": [
    "The decoder gives values that are not finite at this z; hatched pixels have none.",
    "이 z에서 디코더가 유한하지 않은 값을 냅니다. 빗금 친 픽셀에는 값이 없습니다.",
  ],
  "density.prior": ["log p(z)", "log p(z)"],
  "density.normal": ["log N(z; 0, I)", "log N(z; 0, I)"],
  "distance": ["nearest code", "가장 가까운 코드"],
  "in.hole": ["z is in a hole: no data were encoded near here.", "빈 곳입니다. 이 근처로 부호화된 데이터가 없습니다."],
  "near": ["Data encoded near z", "z 근처로 부호화된 데이터"],
  "selected": ["Data inside the lasso: {n}", "올가미 안의 데이터: {n}"],
  "selected.clear": ["Clear the lasso", "올가미 지우기"],
  "explore.hint": [
    "Drag in the plane: the decoded example follows. Click a dot to follow that example.",
    "평면에서 끌면 복원된 예가 따라갑니다. 점을 누르면 그 예를 따라갑니다.",
  ],
  "columns.text": [
    "In rows of examples, each line is a column of the table in its order, with a mark over the usual range.",
    "예를 늘어놓은 곳에서는 선 하나가 표의 열 하나이고, 표시는 보통 범위에서의 값입니다.",
  ],
  "condition": ["Condition c", "조건 c"],
  "temperature": ["Temperature", "온도"],
  "temperature.text": [
    "Scale of the noise of p(z); 1 is the model.",
    "p(z) 잡음의 크기. 1이 모델 그대로입니다.",
  ],
  "draw.prior": ["Draw from p(z)", "p(z)에서 뽑기"],
  "draw.none": [
    "Draws of p(z) cannot be made in the page: {reason}",
    "이 페이지에서는 p(z)에서 뽑을 수 없습니다: {reason}",
  ],
  "draws": ["Draws from p(z), decoded", "p(z)에서 뽑아 복원한 것"],
  "draws.ae": [
    "An autoencoder has no p(z). These z are drawn from N(0, I), where its decoder was not trained.",
    "오토인코더에는 p(z)가 없습니다. 여기 z는 디코더가 배운 적 없는 N(0, I)에서 뽑은 것입니다.",
  ],
  "input.choose": ["Choose an input", "입력 고르기"],
  "input.row": ["Row", "행"],
  "input.random": ["Any row", "아무 행"],
  "input.drop": ["Drop an image here, or", "여기에 그림을 놓거나"],
  "input.file": ["open a file", "파일 열기"],
  "input.draw": ["Draw one", "그리기"],
  "input.pad": ["Drawing pad, {w} by {h} pixels", "그림판, {w} x {h} 픽셀"],
  "input.pad.clear": ["Clear", "지우기"],
  "input.pad.use": ["Encode the drawing", "그림 부호화"],
  "input.pad.keys": [
    "Arrow keys move the pen, space draws.",
    "화살표 키로 펜을 옮기고 스페이스로 그립니다.",
  ],
  "input.too.large": [
    "This image has {n} pixels, more than {most}: make it smaller.",
    "그림이 {n} 픽셀로 {most} 픽셀보다 큽니다. 줄여서 다시 시도하세요.",
  ],
  "input.no.image": ["This file is no image that the browser can read.", "브라우저가 읽을 수 없는 그림 파일입니다."],
  "input.none": [
    "No input yet. Click a dot in the plane, choose a row, drop an image or draw one.",
    "아직 입력이 없습니다. 평면의 점을 누르거나, 행을 고르거나, 그림을 놓거나, 직접 그리세요.",
  ],
  "input.x": ["x, the input", "x, 입력"],
  "input.reconstruction": ["Reconstruction at the mean of q", "q의 평균에서 복원"],
  "input.at.z": ["E[x|z] at z", "z에서의 E[x|z]"],
  "input.at.z.mixed": [
    "At z: the most likely categories, the means of the other columns",
    "z에서: 가장 그럴듯한 범주와 나머지 열의 평균",
  ],
  "input.spread": ["Spread of p(x|z)", "p(x|z)의 퍼짐"],
  "input.sample": ["A sample of p(x|z)", "p(x|z)의 표본"],
  "input.nearest": ["Nearest training example", "가장 가까운 학습 예"],
  "input.nearest.distance": ["root mean squared distance {d}", "평균 제곱근 거리 {d}"],
  "input.nearest.scaled": [
    "root mean squared distance {d}, each column by its spread, another category as 1",
    "평균 제곱근 거리 {d}, 열마다 표준편차로 나누고 범주가 다르면 1",
  ],
  "input.q": ["q(z|x): mean and variance of each feature", "q(z|x): 특징마다의 평균과 분산"],
  "input.q.text": [
    "Grey: the prior N(0, 1). Orange: q(z|x). The line is z.",
    "회색: 사전분포 N(0, 1). 주황: q(z|x). 선은 z입니다.",
  ],
  "input.q.alone": ["Orange: q(z|x). The line is z.", "주황: q(z|x). 선은 z입니다."],
  "input.q.none": ["q(z|x) of this recipe is a point or a code, without a variance.", "이 방법의 q(z|x)는 분산이 없는 점 또는 코드입니다."],
  "input.draw.z": ["Draw z from q(z|x)", "q(z|x)에서 z 뽑기"],
  "input.mean.z": ["z at the mean", "z를 평균으로"],
  "input.variations": ["Sampled variations: z from q(z|x), decoded", "변형: q(z|x)에서 뽑은 z를 복원"],
  "terms": ["Terms of the bound at this z, in nats", "이 z에서 하한의 항 (nat)"],
  "terms.reconstruction": ["log p(x|z)", "log p(x|z)"],
  "terms.prior": ["log p(z)", "log p(z)"],
  "terms.posterior": ["− log q(z|x)", "− log q(z|x)"],
  "terms.weight": ["log w, their sum", "log w, 합"],
  "terms.kl": ["KL(q(z|x) ‖ p(z)) of this x", "이 x의 KL(q(z|x) ‖ p(z))"],
  "terms.text": [
    "The ELBO is the mean of log w over z from q(z|x). For {n} draws it is {mean} ± {se}.",
    "ELBO는 q(z|x)에서 뽑은 z에 대한 log w의 평균입니다. {n}개로는 {mean} ± {se}입니다.",
  ],
  "terms.estimate": ["Average over 64 draws", "64개 평균 계산"],
  "terms.no.bound": [
    "This run has no bound: q has no density, so only log p(x|z) is shown.",
    "이 모델에는 하한이 없습니다. q에 밀도가 없어 log p(x|z)만 보입니다.",
  ],
  "terms.moved": [
    "q of the lower sites depends on the sites above, and is known here only at the means of q: log q has no value at this z.",
    "아래 층의 q는 위층의 값에 따라 달라지며 여기서는 q의 평균에서만 알 수 있습니다. 이 z에서는 log q 값이 없습니다.",
  ],
  "terms.no.family": [
    "The family of p(x|z) has no formula in the page: log p(x|z) is not shown.",
    "p(x|z)의 분포족 공식이 페이지에 없어 log p(x|z)를 보이지 않습니다.",
  ],
  "features.sliders": ["Features by their KL", "KL 순서의 특징"],
  "features.activity": ["Features by their activity", "활동도 순서의 특징"],
  "features.kl": ["{kl} nats", "{kl} nat"],
  "features.more": ["Show {n} more", "{n}개 더 보기"],
  "features.few": ["Show fewer", "줄여 보기"],
  "features.inactive": ["inactive", "쓰이지 않음"],
  "features.strip": ["Traversal of {name} from {a} to {b}", "{name}를 {a}에서 {b}까지 옮긴 것"],
  "features.upper": [
    "Fix the upper groups and draw the rest",
    "위층은 두고 나머지를 다시 뽑기",
  ],
  "features.keep": ["Keep", "유지"],
  "features.resample": ["Draw the rest again", "나머지 다시 뽑기"],
  "features.keep.none": ["nothing", "없음"],
  "features.keep.to": ["{name} and above", "{name}까지"],
  "features.codes": ["Codes by place", "자리별 코드"],
  "features.code.place": ["Place", "자리"],
  "features.code.entry": ["Entry", "항목"],
  "features.code.text": [
    "Each place holds one of {k} entries. Choose a place, then an entry; those that the data have there most often come first.",
    "자리마다 {k}개 항목 가운데 하나가 있습니다. 자리를 고른 다음 항목을 고르세요. 데이터가 그 자리에서 자주 쓰는 항목부터 보입니다.",
  ],
  "features.classes": ["Class y", "클래스 y"],
  "between.title": ["From one example to another", "한 예에서 다른 예로"],
  "between.slot": ["Example {name}", "예 {name}"],
  "between.set": ["Take the input", "입력을 넣기"],
  "between.any": ["Any row", "아무 행"],
  "between.straight": ["Straight", "직선"],
  "between.spherical": ["Spherical", "구면"],
  "between.t": ["Share of the way", "지나온 비율"],
  "between.arithmetic": ["Arithmetic: A − B + C", "연산: A − B + C"],
  "between.go": ["Set z to A − B + C", "z를 A − B + C로"],
  "between.result": ["A − B + C, decoded", "A − B + C를 복원"],
  "between.tour": ["A tour over the data", "데이터 둘러보기"],
  "between.tour.text": [
    "{k} k-means centres of the codes, in a short path.",
    "코드의 k-평균 중심 {k}개를 짧은 길로 지납니다.",
  ],
  "between.play": ["Play", "재생"],
  "between.stop": ["Stop", "멈춤"],
  "between.step": ["Next centre", "다음 중심"],
  "run.terms": ["Terms of the evaluation", "평가의 항"],
  "run.terms.none": [
    "The run has not been evaluated: tightbound evaluate gives its terms.",
    "아직 평가하지 않은 모델입니다. tightbound evaluate로 항을 얻습니다.",
  ],
  "run.term.elbo": ["ELBO", "ELBO"],
  "run.term.reconstruction": ["Reconstruction E_q[log p(x|z)]", "재구성 E_q[log p(x|z)]"],
  "run.term.kl": ["KL(q(z|x) ‖ p(z))", "KL(q(z|x) ‖ p(z))"],
  "run.term.log_px": ["log p(x)", "log p(x)"],
  "run.term.inference_gap": ["Inference gap", "추론 간극"],
  "run.facts": ["The run", "모델 정보"],
  "run.name": ["Name", "이름"],
  "run.recipe": ["Recipe", "방법"],
  "run.data": ["Data", "데이터"],
  "run.points": ["Points", "점"],
  "run.points.value": ["{n} of split {split}", "{split} 분할 {n}개"],
  "run.latent": ["Features", "특징"],
  "run.latent.value": ["{active} active of {width}", "{width}개 가운데 {active}개 사용"],
  "run.networks": ["Networks", "신경망"],
  "run.where.page": ["in this page", "이 페이지에서"],
  "run.where.server": ["on the server", "서버에서"],
  "run.waits": [
    "The server computes the networks until their ONNX graphs are made ({made} of {of}); then this page does.",
    "ONNX 그래프를 만드는 동안은 서버가 신경망을 계산합니다({of}개 중 {made}개 완료). 그 뒤로는 이 페이지가 계산합니다.",
  ],
  "run.float16": [
    "float16, largest difference {e} of the range over {n} examples",
    "float16, 예 {n}개에서 최대 차이 범위의 {e}",
  ],
  "run.notices": ["Notices", "알림"],
  "run.nothing": ["What is not shown", "보이지 않는 것"],
  "theory.choose": ["Scenes", "장면"],
  "theory.none": ["No scene for this run.", "이 모델에 맞는 장면이 없습니다."],
  "theory.small.both": [
    "The scenes show a small VAE and a small autoencoder with two features, trained for a short time on the data of this run.",
    "장면에 나오는 VAE와 오토인코더는 이 모델의 데이터로 짧게 학습한, 특징이 둘인 작은 모델입니다.",
  ],
  "theory.small.vae": [
    "The VAE of the scenes is a small one with two features, trained for a short time on the data of this run.",
    "장면에 나오는 VAE는 이 모델의 데이터로 짧게 학습한, 특징이 둘인 작은 모델입니다.",
  ],
  "theory.small.ae": [
    "The autoencoder of the scenes is a small one with two features, trained for a short time on the data of this run.",
    "장면에 나오는 오토인코더는 이 모델의 데이터로 짧게 학습한, 특징이 둘인 작은 모델입니다.",
  ],
  "theory.small.likelihood": [
    "Its p(x|z) is {theirs} in place of {ours}, which has too many parameters for the integrals over z.",
    "p(x|z)는 {theirs}입니다. 이 모델의 {ours}는 매개변수가 많아 z에 대해 적분하기 어렵습니다.",
  ],
  "theory.next": ["Next scene", "다음 장면"],
  "theory.previous": ["Previous scene", "이전 장면"],
  "keys.arrows": ["Arrow keys: move z; with Shift in larger steps", "화살표: z 옮기기, Shift와 함께 크게"],
  "keys.zoom": ["+ and −: zoom; 0: whole plane", "+와 −: 확대와 축소, 0: 전체"],
  "keys.pan": ["Alt and arrow keys: pan", "Alt와 화살표: 화면 이동"],
  "keys.lasso": [
    "With the lasso: space begins and ends its line, which the arrow keys draw; Escape clears it",
    "올가미에서는 스페이스로 선을 시작하고 끝내며, 선은 화살표로 그리고 Escape로 지웁니다",
  ],
  "keys.enter": ["Enter: follow the example nearest to z", "Enter: z에서 가장 가까운 예 따라가기"],
  "keys.tab": ["Tab: next control; arrow keys in the row of views", "Tab: 다음 조작, 보기 줄에서는 화살표"],
  "keys.title": ["Keys in the plane", "평면의 단축키"],
  "second.text": ["The same movement in both runs", "두 모델에 같은 움직임"],
  "volume.slice": ["middle slice", "가운데 단면"],
  "value.missing": ["missing", "없음"],
} as const satisfies Record<string, readonly [string, string]>;

export type TextKey = keyof typeof TABLE;

export const language = new Signal<Language>("en");

function filled(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The text of a key in the language of the page. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  const [en, ko] = TABLE[key];
  return filled(language.value === "ko" ? ko : en, values);
}

/** A sentence of the manifest in the language of the page. */
export function sentence(text: Sentence): string {
  return typeof text === "string" ? text : text[language.value];
}

/** Both texts of all keys, for tests. */
export const allTexts: Readonly<Record<string, readonly [string, string]>> = TABLE;
