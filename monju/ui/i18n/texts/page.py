"""Texts around the tabs: key → (English, Japanese).

Labels are plain text, translated in the browser; what Python draws is HTML, its {values} escaped.
"""

TRAIN, APP = "python -m monju train --preset laptop --out trained/mine", "python -m monju app trained/mine"
TEXTS = {
    "idea": ("Three small models, each trained on a different part of the data. The closer your sentence is to "
             "what a model has seen, the more its vote counts.",
             "データの異なる部分で学習した 3 つの小さなモデル。入力文に近いデータを学んだものほど、発言力が大きくなります。"),
    "busy": ("The page is busy: try again in a moment.", "混み合っています。少し待ってから、もう一度お試しください。"),
    "language": ("日本語", "English"),
    "theme": ("Theme", "配色"),
    "run_choice": ("Model", "モデル"),
    "tab_playground": ("Playground", "プレイグラウンド"),
    "tab_clusters": ("Clusters", "クラスタ"),
    "tab_writer": ("Writer", "作文"),
    "tab_training": ("Training", "学習"),
    "tab_results": ("Results", "結果"),
    "positive": ("positive", "ポジティブ"),
    "negative": ("negative", "ネガティブ"),
    "monju": ("Monju", "文殊（Monju）"),
    "baseline": ("Baseline", "ベースライン"),
    "waiting": ("Waking the models. The first answer takes a few seconds…", "モデルを読み込んでいます。数秒お待ちください…"),
    "trouble": ("This run cannot be shown.", "このランは表示できません。"),
    "way_out": (f"Train one with <code>{TRAIN}</code>, then open it with <code>{APP}</code>.",
                f"<code>{TRAIN}</code> で学習し、<code>{APP}</code> で開いてください。"),
    "detail": ("What was found: {error}.", "原因：{error}"),
    "no_backbone": ("The models of this run cannot be loaded here. Its results, clusters and map are shown all "
                    "the same.",
                    "このランのモデルをここでは読み込めません。結果、クラスタ、地図は表示できます。"),
    "backbone_way_out": ("What is missing: {error}.", "不足しているもの：{error}。"),
    "fetch_texts": ("With a network, <code>{command}</code> gets them.",
                    "ネットワークがあれば <code>{command}</code> で取得できます。"),
    "bring_texts": ("Bring “{source}” back to see them.", "「{source}」を元の場所に戻すと表示されます。"),
    "no_sentences": ("needs the training sentences, which are not here", "学習文が必要ですが、ここにはありません"),
    "and": (" and ", "と"),
    "stop": (".", "。"),
    "comma": (", ", "、"),
}
