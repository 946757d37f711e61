"""The texts of the results and their report: key → (English, Japanese).

Labels are plain text, translated in the browser; what Python draws is HTML, its {values} escaped.
"""

TEXTS = {
    # the table
    "equal_cost": ("Equal cost", "同一コスト"),
    "table_title": ("The poster’s table: this run beside the poster", "ポスターの表：このランとポスターの値"),
    "table_alone": ("Accuracy of every model", "全モデルの正解率"),
    "col_run": ("This run, % with 95 % intervals", "このラン（%、95 % 信頼区間）"),
    "col_poster": ("The poster, %", "ポスター（%）"),
    "col_trained": ("Training data", "学習データ"),
    "col_accuracy": ("Accuracy", "正解率"),
    "col_ensemble": ("Ensemble", "アンサンブル"),
    "col_gain": ("Gain over the mean member, points", "平均からの向上、ポイント"),
    "col_cost": ("Training tokens", "学習トークン"),
    "col_poster_gain": ("Gain, points", "向上、ポイント"),
    "mean_member": ("mean", "平均"),
    "row_baseline": ("{n} models on everything, averaged", "全データで学習した {n} モデルの平均"),
    "row_equal_cost": ("{n} models on everything, with an expert’s steps", "全データ、ステップ数はエキスパートと同じ {n} モデル"),
    "row_monju": ("{n} experts, weighted by α", "{n} つのエキスパートを α で重み付け"),
    "row_majority": ("Always the commonest label, {label}", "常に最も多いラベル（{label}）"),
    "results_waiting": ("Reading the results…", "結果を読み込んでいます…"),
    # the headline
    "claim": ("Monju {monju} %, baseline {baseline} %: {points} points.",
              "文殊 {monju} %、ベースライン {baseline} %（差 {points} ポイント）。"),
    "claim_alone": ("Monju {monju} %.", "文殊 {monju} %。"),
    "claim_cost": ("With {share} % of the baseline’s training tokens; p = {p} (exact McNemar).",
                   "学習トークンはベースラインの {share} %。p = {p}（正確 McNemar 検定）。"),
    # what it says
    "told_point": ("Measured on {n} held-out sentences: one sentence is {point} points.",
                   "評価用の {n} 文で測定。1 文は {point} ポイントに相当します。"),
    "told_pair": ("<b>Monju − {other}: {points} points</b>{bounds}: {rescued} sentences rescued, {broken} "
                  "broken, "
                  "p = {p} (exact McNemar).",
                  "<b>文殊 − {other}：{points} ポイント</b>{bounds}。文殊だけが正解 {rescued} 文、文殊だけが誤り {broken} 文、"
                  "p = {p}（正確 McNemar 検定）。"),
    "told_same": ("Monju and {other} answered no sentence differently.", "文殊と{other}で判定が異なる文はありません。"),
    "told_both_wrong": ("Monju and {other} answered {changed} sentences differently, both wrongly.",
                        "文殊と{other}で判定が異なるのは {changed} 文で、どちらも誤りです。"),
    "told_luck": ("This difference could be chance: no winner can be declared.",
                  "偶然でも生じうる差です。どちらが優れているとも、両者が等しいとも言えません。"),
    "told_better": ("Monju is better, by more than chance would give.", "偶然では説明しにくい差で、文殊のほうが優れています。"),
    "told_worse": ("Monju is worse, by more than chance would give.", "偶然では説明しにくい差で、文殊のほうが劣っています。"),
    "told_no_baseline": ("This run has no baseline: whether Monju beats one cannot be told from it.",
                         "このランにはベースラインがないため、比較はできません。"),
    "told_gains": ("Ensembling gains Monju’s experts <b>{points} points</b> [{low}, {high}] more than the "
                   "baseline’s models; their means "
                   "before it are {experts} % and {members} %.",
                   "アンサンブルによる向上は、文殊のほうがベースラインより <b>{points} ポイント</b> [{low}, {high}] 大きくなっています"
                   "（統合前のメンバー平均は {experts} % と {members} %）。"),
    "told_gains_same": ("From ensembling every sentence gains as much with Monju as with the baseline; the "
                        "members’ means are "
                        "{experts} % and {members} %.",
                        "アンサンブルによる向上は、どの文でも文殊とベースラインで同じです（メンバー平均は {experts} % と {members} %）。"),
    "told_gains_sure": ("The interval excludes zero: on other sentences, too, the two gains should differ.",
                        "区間は 0 を含まず、ほかの文でも向上の差が見込まれます。"),
    "told_gains_unsure": ("The interval includes zero: the two gains may well be alike.",
                          "区間は 0 を含むため、向上に差がない可能性もあります。"),
    "told_gate": ("The gate’s mean sorted α is {sorted} (equal weights: {equal}); against an equal-weight "
                  "average it changed "
                  "{changed} of {n} labels.",
                  "ゲートの α は並べ替えた平均で {sorted}（等重みは {equal}）。等重みの平均と比べて判定が変わったのは "
                  "{n} 文中 {changed} 文です。"),
    "told_gate_meter": ("Can a gate matter here? Experts are right on {seen} % of the sentences whose nearest "
                        "cluster they have seen and on {unseen} % of the others: a gap of {gap} points. "
                        "Weights as unequal as these could turn at most {could} % of the verdicts; they "
                        "turned {did} %.",
                        "ゲートに意味はあるか：最も近いクラスタを学習済みのエキスパートの正解率は {seen} %、未学習では {unseen} %"
                        "（差 {gap} ポイント）。この偏りの重みで変わりうる判定は最大 {could} %、実際に変わったのは {did} % です。"),
    "told_caution": ("Intervals and p-values speak of these models on other sentences of this kind, not of "
                     "models trained anew "
                     "with other seeds.",
                     "信頼区間と p 値は、この学習済みモデルを同種の別の文に使う場合のもので、別の乱数で学習し直す場合のものではありません。"),
    "told_poster": ("The poster’s numbers are RoBERTa-base’s on SST-2 (872 sentences, k = 3): another model "
                    "or other data than here, "
                    "so compare the pattern, not the height.",
                    "ポスターの値は SST-2（872 文、k = 3）での RoBERTa-base のもので、このランとはモデルやデータが異なります。"
                    "高さではなく傾向を比べてください。"),
    "quality_title": ("Beyond accuracy", "正解率以外の指標"),
    "quality_of": ("Ensemble", "アンサンブル"),
    # figures
    "fig_cluster": ("Accuracy by nearest cluster, %", "最も近いクラスタ別の正解率（%）"),
    "note_cluster": ("Dashed frame: out of fold, the expert never saw this cluster. A cell with few "
                     "sentences is noisy.",
                     "破線の枠：そのエキスパートが学習していないクラスタ。文の少ない枠の値は偶然で動きます。"),
    "fig_cell_seen": ("{model} in {cluster}: {accuracy} %<br>{right} of {n} sentences",
                      "{model}、{cluster}：{accuracy} %<br>{n} 文中 {right} 文"),
    "fig_cell_unseen": ("{model} in {cluster}, never seen: {accuracy} %<br>{right} of {n} sentences",
                        "{model}、{cluster}（未学習）：{accuracy} %<br>{n} 文中 {right} 文"),
    "fig_agreement": ("Agreement between models, % of equal verdicts", "モデル間の一致（判定が同じ文の %）"),
    "note_same": ("Two experts agree on {experts} % of the sentences on average, two of the baseline’s "
                  "models on {members} %: "
                  "where they differ, others can correct the mistake.",
                  "平均の一致率はエキスパート同士 {experts} %、ベースラインのモデル同士 {members} %。"
                  "違いがあるほど、誤りを補い合う余地があります。"),
    "note_same_alone": ("Two experts agree on {experts} % of the sentences on average: where they "
                        "differ, others can correct the mistake.",
                        "エキスパート同士の一致率は平均 {experts} %。違いがあるほど、誤りを補い合う余地があります。"),
    "fig_same": ("{one} and {other}: {share} % of verdicts are equal", "{one} と {other}：判定の {share} % が一致"),
    "fig_calibration": ("Calibration: does confidence match accuracy?", "キャリブレーション：確信度は正解率と合っているか"),
    "note_calibration": ("Under the dotted line: overconfident. A small mark stands for few sentences.",
                         "点線より下は自信過剰。小さな印は文が少ないことを示します。"),
    "fig_perfect": ("as sure as right", "確信＝正解率"),
    "fig_sure": ("probability of the verdict", "判定の確率"),
    "fig_right": ("share that is right", "正解の割合"),
    "fig_sentences": ("sentences", "文の数"),
    "fig_bin": ("{model}, {low}–{high} % sure: {n} sentences<br>{sure} % sure, {accuracy} % right",
                "{model}、確率 {low}～{high} %：{n} 文<br>平均の確率 {sure} %、正解率 {accuracy} %"),
    "fig_alpha": ("α over the held-out sentences", "評価用の文での α の分布"),
    "note_alpha": ("The nearer to the dashed line, the more Monju is an equal-weight average. All rows share "
                   "one scale.",
                   "破線に近いほど等重みの平均と変わりません。縦の目盛りは全行共通です。"),
    "fig_alpha_bin": ("{expert}, α {low}–{high}: {n} sentences", "{expert}、α {low}～{high}：{n} 文"),
    "fig_mean": ("mean {value}", "平均 {value}"),
    "fig_equal": ("equal weight {value}", "等重み {value}"),
    "fig_rounds": ("Accuracy after each round", "ラウンドごとの正解率"),
    "note_rounds": ("From the second round on, every expert starts from an average of all, so that none is "
                    "out of fold any more. "
                    "The experts’ average is one model.",
                    "2 ラウンド目以降は全エキスパートの平均から学習を始めるため、どのクラスタも間接的に学習済みです。"
                    "エキスパートの平均は 1 つのモデルです。"),
    "fig_round": ("round", "ラウンド"),
    "fig_merged": ("experts’ average", "エキスパートの平均"),
    "fig_round_told": ("{model} after round {round}: {accuracy} % [{low}, {high}]",
                       "{model}、ラウンド {round} の後：{accuracy} % [{low}, {high}]"),
    "save_as": ("Save “{title}” as {format}", "「{title}」を {format} で保存"),
    # language models
    "lm_claim": ("Monju’s perplexity {monju}, the baseline’s {baseline}.", "パープレキシティ：文殊 {monju}、ベースライン {baseline}。"),
    "lm_claim_alone": ("Monju’s perplexity {monju}.", "文殊のパープレキシティ {monju}。"),
    "lm_ratio": ("{change} % [{low}, {high}] against the baseline on the same documents; lower is better.",
                 "同じ文書でベースライン比 {change} % [{low}, {high}]。低いほど良い値です。"),
    "lm_gate_none": ("The gate changes perplexity by {change} % against equal weights, which could be chance: mean sorted α "
                     "{weights}.",
                     "ゲートによるパープレキシティの変化は等重み比 {change} %。偶然の範囲です。α の平均（昇順）は {weights}。"),
    "lm_gate_helps": ("The gate lowers perplexity: {change} % against equal weights; mean sorted α {weights}.",
                      "ゲートでパープレキシティが下がります：等重み比 {change} %。α の平均（昇順）は {weights}。"),
    "lm_gate_harms": ("The gate raises perplexity: {change} % against equal weights; mean sorted α {weights}.",
                      "ゲートでパープレキシティが上がります：等重み比 {change} %。α の平均（昇順）は {weights}。"),
    "lm_table": ("Perplexity on {n} documents, {tokens} tokens", "パープレキシティ：{n} 文書、{tokens} トークン"),
    "lm_told": ("In brackets the 95 % interval over documents. A cluster with * was not in that expert’s training.",
                "[ ] は文書についての 95 % 区間。* はそのエキスパートが学習していないクラスタです。"),
    "lm_gates": ("The same experts under every gate", "ゲートごとの結果（エキスパートは同じ）"),
    "lm_of": ("Model", "モデル"), "lm_token": ("A token", "トークンあたり"), "lm_byte": ("A byte", "バイトあたり"),
    "lm_trained": ("Training tokens", "学習トークン"), "lm_gate": ("Gate", "ゲート"),
    "lm_change": ("Against the run’s own gate", "このランのゲートとの差"), "lm_asked": ("Experts a token", "トークンあたりのエキスパート数"),
    "lm_merged": ("The experts’ mean weights, one model", "エキスパートの重みの平均（1 モデル）"),
    "lm_base": ("The decoder before training", "学習前のデコーダ"),
    "lm_unigram": ("Token frequencies alone", "トークンの頻度のみ"),
    # sentences
    "turned_title": ("Where Monju and the baseline disagree", "文殊とベースラインで正誤が分かれた文"),
    "turned_hint": ("Click a sentence to open it in the Playground. The surest change comes first.",
                    "文をクリックするとプレイグラウンドで開きます。変化の大きい順に並んでいます。"),
    "rescued": ("Monju fixes: right where the baseline is wrong", "文殊だけが正解した文"),
    "broken": ("Monju breaks: wrong where the baseline is right", "文殊だけが誤った文"),
    "nothing_turned": ("None.", "ありません。"),
    "more_turned": ("and {n} more", "ほか {n} 文"),
    "truth": ("label {label}", "正解 {label}"),
    "turned_verdict": ("{name}: {label} {share}", "{name}：{label} {share}"),
    "turned_reading": ("Reading the sentences again from the run’s own source…", "ランのデータから文を読み直しています…"),
    "turned_gone": ("The sentences of “{source}” cannot be had here now.", "いま「{source}」の文を読めません。"),
    "turned_counts": ("Monju is right on {rescued} sentences that the baseline gets wrong, and wrong on {broken} that it "
                      "gets right.",
                      "ベースラインが誤った文のうち {rescued} 文に文殊は正解し、ベースラインが正解した文のうち {broken} 文で誤りました。"),
    "turned_none": ("This run has no baseline to turn a sentence against.", "このランには比べるベースラインがありません。"),
    # other runs
    "swipe": ("Swipe sideways for more columns →", "横にスクロールすると続きの列が見えます →"),
    "figures_title": ("Figures: clusters, agreement, calibration, α", "図：クラスタ別、一致、キャリブレーション、α"),
    "runs_choose": ("Compare with other models", "ほかのモデルと比べる"),
    "runs_title": ("Models side by side", "モデルの比較"),
    "runs_told": ("Accuracies on different data or label sets do not rank models: compare the differences.",
                  "データやラベルが異なるモデルの正解率は優劣を示しません。差を比べてください。"),
    "runs_run": ("Model", "モデル"), "runs_data": ("Data", "データ"), "runs_backbone": ("Backbone", "ベースモデル"),
    "runs_settings": ("Settings", "設定"), "runs_n": ("Held-out sentences", "評価用の文"),
    "runs_monju": ("Monju, %", "文殊（%）"), "runs_baseline": ("Baseline, %", "ベースライン（%）"),
    "runs_difference": ("Difference, points", "差、ポイント"), "runs_cost": ("Training tokens", "学習トークン"),
    "runs_gap": ("Seen − unseen clusters, points", "学習済み − 未学習クラスタ、ポイント"),
    "runs_set": ("k = {k}, m = {m}, {gate}", "k = {k}、m = {m}、{gate}"),
    "fig_run_held_out_accuracy": ("Held-out accuracy during training", "学習中の評価用の正解率"),
    "fig_run_loss": ("Training loss", "学習の損失"),
    "note_run_curves": ("Solid: mean of the experts, each alone; dashed: mean of the baseline’s models. During training a "
                        "small fixed part of the held-out sentences is read.",
                        "実線はエキスパート単独の平均、破線はベースラインの各モデルの平均。学習中は評価用の文の決まった一部だけを読みます。"),
    "curve_experts": ("experts", "エキスパート"),
    "curve_baseline": ("baseline", "ベースライン"),
    "fig_step": ("training step", "学習ステップ"),
    # the comparison
    "compare_go": ("Compare every system", "すべての方式を比べる"),
    "compare_title": ("Every system side by side", "すべての方式の比較"),
    "compare_told": ("Against {against} on {n} held-out sentences, the most accurate first. {rows} systems "
                     "are tested at once: "
                     "the last p is corrected for that (Holm).",
                     "評価用の {n} 文で「{against}」と比べ、正解率の高い順に並べています。{rows} 方式を同時に検定するため、"
                     "Holm 法で補正した p も示します。"),
    "compare_name": ("System", "方式"), "compare_kind": ("Kind", "種類"),
    "compare_accuracy": ("Accuracy, %", "正解率（%）"),
    "compare_difference": ("− {against}, points", "「{against}」との差、ポイント"),
    "compare_p": ("p", "p"), "compare_holm": ("p, Holm", "p（Holm）"),
    "compare_same": ("same answers", "判定は同じ"),
    "compare_passes": ("Forward passes", "順伝播の回数"),
    "compare_more": ("From the stored predictions: no model was asked. Merges into one model must read every "
                     "sentence: "
                     "<code>python -m monju compare {run} --data …</code>",
                     "保存済みの予測だけから計算しました。1 つのモデルへの統合は全文を読み直す必要があります："
                     "<code>python -m monju compare {run} --data …</code>"),
    "compare_left": ("{n} left out, and why", "除いた {n} 方式とその理由"),
    "kind_member": ("one model", "単独モデル"), "kind_ensemble": ("ensemble", "アンサンブル"),
    "kind_gate": ("gate", "ゲート"),
    "kind_calibration": ("calibrated", "較正"), "kind_early exit": ("early exit", "早期終了"),
    "kind_weights": ("one weight each", "固定の重み"), "kind_selection": ("selection", "選択"),
    "kind_control": ("control", "対照"),
    "system_early exit": ("asked in turn until sure", "確信が持てるまで順に聞く"),
    "system_calibrated, equal weights": ("one temperature an expert, equal weights",
                                         "エキスパートごとの温度・等重み"),
    "system_calibrated, gate": ("one temperature an expert, and the gate", "エキスパートごとの温度・ゲート"),
    "system_Arrow": ("Arrow: adapters routed by themselves", "Arrow：アダプター自身による振り分け"),
    "kind_merge": ("merge", "統合"), "kind_student": ("student", "蒸留モデル"),
    "system_uniform": ("equal weights", "等重み"), "system_oracle": ("oracle: the ceiling", "オラクル（理論上の上限）"),
    "system_α permuted": ("α of other sentences", "他の文の α"),
    # to take away
    "take_csv": ("Table as CSV", "表を CSV で保存"),
    "take_latex": ("Table as LaTeX", "表を LaTeX で保存"),
    "take_report": ("Report as HTML", "レポートを HTML で保存"),
    "take_trouble": ("This run’s results cannot be read any more: choose another run.",
                     "このランの結果を読めなくなりました。別のランを選んでください。"),
    "report_title": ("Monju: results of the run {run}", "文殊（Monju）：ラン {run} の結果"),
    "facts_data": ("Data", "データ"),
    "facts_settings": ("Settings", "設定"),
    "facts_machine": ("Machine and versions", "計算機とバージョン"),
}
