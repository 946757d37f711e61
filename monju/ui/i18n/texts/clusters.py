"""Texts of the map: key → (English, Japanese).

Labels are plain text, translated in the browser; what Python draws is HTML, its {values} escaped.
"""

TEXTS = {
    # the controls
    "map_sentence": ("Your sentence on the map", "地図に表示する文"),
    "map_type": ("Type a sentence and watch where it lands", "文を入力すると、地図のどこに現れるかがわかります"),
    "map_search": ("Find a word in the sentences", "単語で文を検索"),
    "map_reading": ("Reading the sentences…", "文を読み込んでいます…"),
    "map_found": ("{n} of {total}", "{total} 文中 {n} 文"),
    "map_find_none": ("not on this map", "地図にありません"),
    "map_before": ("Previous sentence", "前の文"),
    "map_next": ("Next sentence", "次の文"),
    "map_only": ("only these", "これだけ表示"),
    "map_colour": ("Colour", "色分け"),
    "map_projection": ("View", "投影"),
    "map_layers": ("What is drawn", "表示する要素"),
    "layer_points": ("points", "点"),
    "layer_density": ("density", "密度"),
    "layer_names": ("names", "名前"),
    "layer_borders": ("borders", "境界"),
    "layer_alpha": ("α", "α"),
    "map_zoom_in": ("Zoom in", "拡大"),
    "map_zoom_out": ("Zoom out", "縮小"),
    "map_whole": ("Show the whole map", "全体を表示"),
    "map_keep": ("Pin", "ピンで留める"),
    "map_clear": ("Clear pins", "ピンをすべて消す"),
    "plane": ("three centres", "3 つの中心"),
    "pca": ("PCA", "PCA"),
    "umap": ("UMAP", "UMAP"),
    "by_cluster": ("cluster", "クラスタ"),
    "by_label": ("label", "ラベル"),
    "by_correct": ("Monju right or wrong", "文殊の正解・不正解"),
    "by_differ": ("where Monju and the baseline differ", "両者の判定の異同"),
    # the map
    "map_canvas": ("Map of {n} training sentences", "学習文 {n} 文の地図"),
    "map_use": ("Read this sentence", "この文を読ませる"),
    "map_what_if": ("what if", "仮の位置"),
    "map_read_touch": ("Tap a point to read its sentence.", "点をタップすると文を表示します。"),
    "map_read_mouse": ("Point at a sentence to read it.", "点を指すと文を表示します。"),
    "map_touch": ("Two fingers move and zoom the map.", "地図は 2 本指で動かし、拡大します。"),
    "map_mouse": ("Drag the map to move it; Ctrl + wheel zooms.", "ドラッグで移動、Ctrl + ホイールで拡大します。"),
    "map_shade": ("Shade and level lines: the largest α at this height; the stronger the shade, the more one expert "
                  "dominates.",
                  "濃淡と等高線はこの高さでの最大の α。色が強いほど 1 つのエキスパートが優勢です。"),
    "map_leads": ("{expert} leads", "{expert} が優勢"),
    "about_plane": ("The plane through the three centres: which centre is nearest, and every border, is exact.",
                    "3 つの中心を通る平面。どの中心に最も近いか、どこが境界かは正確です。"),
    "map_drag": ("Drag the yellow marker: α and the verdict follow.", "黄色の印を動かすと、α と判定が変わります。"),
    "about_pca": ("The two directions in which the sentences spread most. Large distances are kept best; "
                  "what differs in other "
                  "directions falls together.",
                  "文の広がりが最も大きい 2 方向。大きな距離はよく保たれますが、ほかの方向の違いはつぶれます。"),
    "about_umap": ("Neighbours stay neighbours. Distances between groups, their sizes and the empty space "
                   "between them mean little.",
                   "近い文どうしは近いままです。群れどうしの距離、群れの大きさ、間の余白にはあまり意味がありません。"),
    "no_map": ("This run has no map yet. Draw one with <code>{command}</code>.",
               "このランにはまだ地図がありません。<code>{command}</code> で描けます。"),
    "no_texts": ("The sentences of “{source}” cannot be had here now: the map shows where they lie, their "
                 "clusters and verdicts, but not their words.",
                 "いま「{source}」の文を読めません。地図には文の位置、クラスタ、判定だけを表示します。"),
    "in_cluster": ("cluster {name}", "クラスタ {name}"),
    "is_right": ("Monju right", "文殊が正解"),
    "is_wrong": ("Monju wrong", "文殊が不正解"),
    "do_agree": ("same answer", "同じ答え"),
    "do_differ": ("different answers", "異なる答え"),
    "you": ("your sentence", "入力した文"),
    "map_hint": ("Type a sentence: it appears on the map.", "文を入力すると地図に現れます。"),
    # beside the map
    "map_moved": ("“What if it lay here?” The experts’ answers stay fixed; only their weights change.",
                  "もしここにあったら、という仮の位置です。エキスパートの答えはそのままで、重みだけが変わります。"),
    "map_back": ("Put it back", "元の位置に戻す"),
    "map_here": ("Where your sentence lies.", "入力した文の実際の位置です。"),
    "map_alpha": ("Weight of each expert, α", "各エキスパートの重み α"),
    "map_nearest": ("Nearest training sentences", "最も近い学習文"),
    "map_nearest_labels": ("Labels of the 8 nearest training sentences", "最も近い学習文 8 文のラベル"),
    # under the map
    "side_title": ("Why α is what it is", "α がこの値になる理由"),
    "side_alt": ("The plane seen from the side: the sentence stands {h} above it, the centres lie in it.",
                 "平面を横から見た図。文は平面から {h} 離れ、各中心は平面上にあります。"),
    "side_caption": ("The map seen from the side, true to scale: the sentence stands {h} off its plane.",
                     "地図を横から見た図（縮尺は正確）。文は平面から {h} 離れています。"),
    "map_distances": ("Distances to the centres", "各中心との距離"),
    "axis_begins": ("This axis begins at {at}, not at 0.", "この軸は 0 ではなく {at} から始まります。"),
    "lesson_sharpness": ("sharpness p = {p}", "鋭さ p = {p}"),
    "lesson_gate": ("the gate “{gate}”", "ゲート「{gate}」"),
    "lesson_alike_even": ("In all {dim} dimensions the {k} centres are nearly equally far, {least} to {most}: that is "
                          "why α is nearly 1/{n}.",
                          "全 {dim} 次元では {k} つの中心がほぼ等距離（{least}～{most}）にあるため、α はほぼ 1/{n} になります。"),
    "lesson_alike_uneven": ("In all {dim} dimensions the {k} centres are nearly equally far, {least} to {most}. Equal "
                            "weights would be 1/{n}: {gate} spreads α out, from {low} to {high}.",
                            "全 {dim} 次元では {k} つの中心がほぼ等距離（{least}～{most}）です。そのままなら α は 1/{n} に近いところ、"
                            "{gate} が {low}～{high} まで広げています。"),
    "lesson_apart_even": ("In all {dim} dimensions the {k} centres are not equally far, {least} to {most}; with {gate} "
                          "α stays near 1/{n} all the same.",
                          "全 {dim} 次元での {k} つの中心との距離には差があります（{least}～{most}）が、{gate} では α は 1/{n} に近いままです。"),
    "lesson_apart_uneven": ("In all {dim} dimensions the {k} centres are not equally far, {least} to {most}: with {gate} "
                            "α goes from {low} to {high}.",
                            "全 {dim} 次元での {k} つの中心との距離には差があり（{least}～{most}）、{gate} では α が {low}～{high} に分かれます。"),
    # the clusters
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
