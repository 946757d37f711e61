"""Texts of the map: key → (English, Japanese).

Labels are plain text, translated in the browser; what Python draws is HTML, its {values} escaped.
"""

TEXTS = {
    "map_sentence": ("Your sentence on the map", "地図に表示する文"),
    "map_search": ("Find a word", "単語で検索"),
    "map_search_hint": ("highlights sentences containing it", "その単語を含む文を強調します"),
    "map_projection": ("Projection", "投影"),
    "map_colour": ("Colour", "色分け"),
    "map_keep": ("Pin", "ピンで留める"),
    "map_clear": ("Clear pins", "ピンをすべて消す"),
    "plane": ("three centres", "3 つの中心"),
    "pca": ("PCA", "PCA"),
    "umap": ("UMAP", "UMAP"),
    "by_cluster": ("cluster", "クラスタ"),
    "by_label": ("label", "ラベル"),
    "by_correct": ("Monju right or wrong", "文殊の正解・不正解"),
    "by_differ": ("where Monju and the baseline differ", "両者の判定の異同"),
    "about_plane": ("The plane through the three centres. Which centre is nearest, and every border, is "
                    "exact; height above "
                    "this plane is not shown. Click the map or drag the marker: α and the verdict "
                    "follow.",
                    "3 つの中心を通る平面。どの中心に最も近いか、どこが境界かは正確で、平面からの距離は図に表れません。"
                    "地図をクリックするか印を動かすと、α と判定が変わります。"),
    "about_pca": ("The two directions in which the sentences spread most. Large distances are kept best; "
                  "what differs in other "
                  "directions falls together.",
                  "文の広がりが最も大きい 2 方向。大きな距離はよく保たれますが、ほかの方向の違いはつぶれます。"),
    "about_umap": ("Neighbours stay neighbours. Distances between groups, their sizes and the empty space "
                   "between them mean little.",
                   "近い文どうしは近いままです。群れどうしの距離、群れの大きさ、間の余白にはあまり意味がありません。"),
    "map_waiting": ("Drawing the map…", "地図を描いています…"),
    "no_map": ("This run has no map yet. Draw one with <code>{command}</code>.",
               "このランにはまだ地図がありません。<code>{command}</code> で描けます。"),
    "no_texts": ("The run’s own sentences ({source}) cannot be read here, so rows, labels and clusters are "
                 "shown instead.",
                 "このランの文（{source}）をここでは読めないため、行番号・ラベル・クラスタを表示します。"),
    "in_cluster": ("cluster {name}", "クラスタ {name}"),
    "is_right": ("Monju right", "文殊が正解"),
    "is_wrong": ("Monju wrong", "文殊が不正解"),
    "do_agree": ("same answer", "同じ答え"),
    "do_differ": ("different answers", "異なる答え"),
    "row_number": ("row {n}", "{n} 行目"),
    "you": ("your sentence", "入力した文"),
    "lit": ("found", "見つかった文"),
    "map_found": ("{n} of {total} sentences on the map contain “{word}”.",
                  "地図上の {total} 文のうち {n} 文が「{word}」を含みます。"),
    "map_hint": ("Type a sentence: it appears on the map.", "文を入力すると地図に現れます。"),
    "map_answer": ("Monju: {label}", "文殊：{label}"),
    "map_moved": ("“What if it lay here?” The experts’ answers stay fixed; only their weights change.",
                  "もしここにあったら、という仮想の文です。エキスパートの答えはそのままで、重みだけが変わります。"),
    "map_here": ("Your sentence.", "入力した文の実際の位置です。"),
    "map_off": ("{h} of its distance lies outside this picture", "この図に表れない距離 {h}"),
    "map_distances": ("Distances to the centres", "各中心との距離"),
    "map_alpha": ("The experts’ α", "各エキスパートの α"),
    "map_nearest": ("Nearest training sentences, in the embedding’s own space", "最も近い学習文（埋め込み空間での距離）"),
    "map_shade": ("Darker: one expert dominates (level lines: the largest α).", "濃いほど 1 つのエキスパートが優勢です（等高線は最大の α）。"),
    "map_sizes": ("The clusters", "クラスタの内訳"),
    "map_size": ("sentences", "文数"),
    "map_balance": ("labels", "ラベル"),
    "map_validation": ("held-out sentences", "評価用の文"),
    "map_words": ("characteristic words", "特徴的な語"),
    "map_silhouette": ("Silhouette {value} (1: clusters fully separate, 0: they overlap). The map shows {n} of "
                       "{total} training sentences. "
                       "A sentence’s colour is the cluster that it was trained in; clusters were forced "
                       "to equal size, so some points lie across a border.",
                       "シルエット係数 {value}（1 は完全に分離、0 は重なり合い）。地図には学習文 {total} 文のうち {n} 文を表示しています。"
                       "色は学習時のクラスタです。大きさをそろえたクラスタは境界をまたぐことがあります。"),
}
