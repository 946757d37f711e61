"""What a visitor and an owner are told: key → (English, Japanese)."""

TEXTS = {
    "o_secret": ("Only the owner of this page trains, uploads, renames, deletes and sends runs. Are you the "
                 "owner? Give the secret "
                 "(the environment variable MONJU_OWNER_SECRET).",
                 "学習、アップロード、名前の変更、削除、送信は、このページのオーナーだけが行えます。"
                 "オーナーの方は合言葉（環境変数 MONJU_OWNER_SECRET）を入力してください。"),
    "o_login": ("Only the owner of this Space trains, uploads, renames, deletes and sends runs. Are you the "
                "owner? Sign in.",
                "学習、アップロード、名前の変更、削除、送信は、この Space のオーナーだけが行えます。"
                "オーナーの方はログインしてください。"),
    "o_both": ("Only the owner of this Space trains, uploads, renames, deletes and sends runs. Are you the "
               "owner? Sign in, or give the "
               "secret (MONJU_OWNER_SECRET).",
               "学習、アップロード、名前の変更、削除、送信は、この Space のオーナーだけが行えます。"
               "オーナーの方はログインするか、合言葉（MONJU_OWNER_SECRET）を入力してください。"),
    "o_closed": ("Training is closed: this page is public and has no owner. Whoever runs it sets "
                 "MONJU_OWNER_SECRET, "
                 "or opens training to everyone (MONJU_OPEN=1). Your own copy trains without either.",
                 "このページは公開されていてオーナーが決まっていないため、学習はできません。"
                 "運営者は MONJU_OWNER_SECRET を設定するか、MONJU_OPEN=1 で全員に開放できます。"
                 "手元で起動すれば、そのまま学習できます。"),
    "o_zero": ("Training is switched off on ZeroGPU: it lends a GPU for a minute at a time. Give the Space a "
               "GPU of its own, "
               "or train in your own copy.",
               "ZeroGPU では GPU が 1 分ほどずつしか使えないため、学習はできません。"
               "専用 GPU の Space にするか、手元で学習してください。"),
    "o_label": ("The owner's secret", "オーナーの合言葉"),
    "o_enter": ("I am the owner", "オーナーとして入る"),
    "o_sign_in": ("Sign in with Hugging Face", "Hugging Face でログイン"),
    "o_wrong": ("This is not the secret.", "合言葉が違います。"),
    "o_wait": ("There were too many attempts: wait a minute, then try again.",
               "試行回数が多すぎます。1 分ほど待ってからもう一度お試しください。"),
    "o_welcome": ("You are the owner until you close or reload the page.",
                  "このページを閉じるか再読み込みするまで、オーナーとして操作できます。"),
}
