"""Every text of the page, in English and Japanese, side by side.

One table for both ways a text reaches the browser: labels are translated there by `gr.I18n`,
what Python draws is worded here in the language that the browser asked for. Knows nothing of
readings or layout.
"""

from html import escape

import gradio as gr

TRAIN, APP = "python -m monju train --preset laptop --out trained/mine", "python -m monju app trained/mine"
TEXTS = {
    # labels: plain text, translated in the browser
    "proverb": ("“Three heads together have Manjushri’s wisdom.”", "三人集まって考えれば、文殊菩薩のような知恵が出る。"),
    "idea": ("Each expert has learned only some clusters of the data; "
             "on your sentence, those who know its neighbourhood speak loudest.",
             "各エキスパートはデータの一部のクラスタだけを学び、入力した文の近所を知る者ほど大きな声で答えます。"),
    "sentence": ("Your sentence", "文を入力"),
    "placeholder": ("Type a sentence, in the language of the training data", "文を入力してください（学習データと同じ言語で）"),
    # what Python draws: HTML, {values} are escaped
    "positive": ("positive", "ポジティブ"),
    "negative": ("negative", "ネガティブ"),
    "waiting": ("Waking the models. The first answer takes a few seconds…", "モデルを読み込んでいます。数秒お待ちください…"),
    "hint": ("Type a sentence above, or choose an example: the experts answer as you type.",
             "上の欄に文を入力するか、例文を選んでください。入力に合わせてエキスパートが答えます。"),
    "trouble": ("This run cannot be shown.", "このランは表示できません。"),
    "way_out": (f"Train one with <code>{TRAIN}</code>, then open it with <code>{APP}</code>.",
                f"<code>{TRAIN}</code> で学習し、<code>{APP}</code> で開いてください。"),
    "detail": ("What was found: {error}.", "原因（英語）：{error}"),
    "monju": ("Monju", "文殊（Monju）"),
    "monju_by": ("experts weighted by α", "α で重み付けしたエキスパート"),
    "baseline": ("Baseline", "ベースライン"),
    "baseline_by": ("{n} models taught everything, equal weight", "全データで学習した {n} モデルの等重み平均"),
    "probability": ("probability", "確率"),
    "logit": ("logit", "ロジット"),
    "more_labels": ("and {n} less likely labels", "ほか {n} ラベル（確率がより低い）"),
    "agree": ("Monju and the baseline agree: {label}.", "文殊とベースラインは一致：{label}。"),
    "disagree": ("Monju and the baseline disagree: {monju} against {baseline}.",
                 "文殊とベースラインの答えが割れました：文殊は{monju}、ベースラインは{baseline}。"),
    "no_baseline": ("Monju says {label}.", "文殊の答え：{label}。"),
    "unanimous": ("All {n} experts say so.", "{n} 人のエキスパート全員が同じ意見です。"),
    "one_outvoted": ("{expert} alone says {label} and is outvoted.", "{expert} だけが{label}と答え、多数に押し切られました。"),
    "outvoted": ("Outvoted: {experts}.", "多数に押し切られた意見：{experts}。"),
    "outweighed": ("Outweighed by {winners}, louder or surer: {experts}.",
                   "声や確信がより強い {winners} に押し切られた意見：{experts}。"),
    "compromise": ("It is no expert’s first choice: it wins as the best compromise.",
                   "どのエキスパートの第一候補でもなく、妥協点として選ばれました。"),
    "and": (" and ", "と"),
    "comma": (", ", "、"),
    "experts": ("{n} experts, each taught {m} of {k} clusters", "{n} 人のエキスパート：それぞれ {k} クラスタ中 {m} つを学習"),
    "knows": ("taught {clusters}", "{clusters} を学習"),
    "unseen": ("never saw {clusters}", "{clusters} は未学習"),
    "equal_weight": ("equal weight {value}", "等重み {value}"),
    "members": ("The baseline’s {n} models, each taught all clusters", "ベースラインの {n} モデル：それぞれ全クラスタを学習"),
    "equal": ("weight {value}", "重み {value}"),
    "where": ("How far the sentence is from each cluster", "文と各クラスタ中心との距離"),
    "nearest": ("nearest", "最も近い"),
    "weights": ("How that becomes α", "距離から α へ"),
    "fused": ("How α becomes the verdict", "α から判定へ"),
    "loudest": ("Nearest cluster: {cluster}. Loudest expert: {expert}.",
                "最も近いクラスタは {cluster}、最も声の大きいエキスパートは {expert}。"),
    "tied": ("Nearest cluster: {cluster}. All experts weigh the same.", "最も近いクラスタは {cluster}。全員の重みが等しくなっています。"),
    "near_equal": ("The weights are close to equal.", "重みはほぼ均等です。"),
    "run": ("Run {run}: {backbone} on {data}, {train} training sentences.",
            "ラン {run}：{data} の {train} 文で学習した {backbone}。"),
    "score": ("{name} {accuracy} % ({low}–{high})", "{name} {accuracy} %（{low}–{high}）"),
    "scores": ("On {n} held-out sentences, with 95 % intervals: {scores}. One sentence is {point} points.",
               "未学習の {n} 文での正解率（95 % 信頼区間）：{scores}。1 文は {point} ポイント。"),
    "difference": ("The difference of {points} points has p = {p} (exact McNemar).",
                   "差は {points} ポイント、p = {p}（正確 McNemar 検定）。"),
}

LANGUAGES = ("en", "ja")
I18N = gr.I18n(**{language: {key: texts[i] for key, texts in TEXTS.items()} for i, language in enumerate(LANGUAGES)})


class Words:
    """The texts in one language: words("agree", label="positive") → a sentence, its values escaped for HTML."""

    def __init__(self, language="en"):
        self.language = language

    def __call__(self, key, **values):
        text = TEXTS[key][LANGUAGES.index(self.language)]
        return text.format(**{name: escape(str(value)) for name, value in values.items()})

    def label(self, name):
        """A label's readable name: the common ones translated, any other as the data has it. Not escaped."""
        return self(name) if name in ("positive", "negative") else str(name)

    def listed(self, items):
        """["AB", "BC", "CA"] → "AB, BC and CA". Not escaped."""
        *first, last = items
        return self("and").join(filter(None, [self("comma").join(first), last]))


def asked(request):
    """Words in the language that a request's browser puts first, as `gr.I18n` picks it there; English where unsure."""
    header = request.headers.get("accept-language", "") if request else ""
    first = header.split(",")[0].split("-")[0].strip().lower()
    return Words(first if first in LANGUAGES else "en")
