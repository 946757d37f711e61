// The page around the tabs. Runs in the head, before Gradio: language and theme, the tab and the settings in the address,
// arrow keys on the tabs, HTML taken over in place, and the word for whom the server had no time.
const monju = (() => {
  const asked = new URLSearchParams(location.search)
  // in a frame of another site a browser may keep nothing for us
  const kept = name => { try { return localStorage.getItem(`monju-${name}`) } catch { return null } }
  const keep = (name, value) => { try { localStorage.setItem(`monju-${name}`, value) } catch {} }
  const write = params => history.replaceState(null, '', `${location.pathname}${params.size ? `?${params}` : ''}`)

  // Gradio translates labels by navigator.language, the server its answers by the header that each request carries
  const language = [asked.get('lang'), kept('lang'), navigator.language.slice(0, 2)].find(name => ['en', 'ja'].includes(name)) ?? 'en'
  Object.defineProperty(navigator, 'language', { get: () => language })
  document.documentElement.lang = language
  const theme = asked.get('__theme') ?? kept('theme')
  if (['dark', 'light'].includes(theme)) { asked.set('__theme', theme); write(asked) }

  const fetched = window.fetch
  let fade
  window.fetch = async (what, options = {}) => {
    const own = typeof what === 'string' || what instanceof URL
    if (own) options = { ...options, headers: { ...Object.fromEntries(new Headers(options.headers)), 'accept-language': language } }
    const answer = await fetched(what, options)
    // Gradio shows what a queued function is refused with, and keeps silent about the others: the sentence's
    if (answer.url.includes('/run/predict')) {
      const told = document.getElementById('busy')
      told.textContent = answer.status !== 503 ? '' : (await answer.clone().json().catch(() => ({}))).error || '503'
      clearTimeout(fade)
      fade = setTimeout(() => { told.textContent = '' }, 6000)
    }
    return answer
  }

  const tabs = () => [...document.querySelectorAll('#tabs [role=tab]')]
  const here = () => tabs().find(tab => tab.ariaSelected === 'true')?.dataset.tabId
  let shown, wanted = asked.get('tab'), clicked = 0
  new MutationObserver(() => {
    const now = here()
    // until it is heard: on a narrow screen Gradio draws the tabs more than once
    if (now === wanted) wanted = null
    if (now && wanted && Date.now() > clicked + 300) {
      clicked = Date.now()
      tabs().find(tab => tab.dataset.tabId === wanted)?.click()
    }
    if (!now || now === shown) return
    const before = shown
    shown = now
    if (!before) return
    const params = new URLSearchParams(location.search)
    now === tabs()[0].dataset.tabId ? params.delete('tab') : params.set('tab', now)
    write(params)
    scrollTo(0, 0)
  }).observe(document, { subtree: true, childList: true, attributeFilter: ['aria-selected'] })
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }
  document.addEventListener('keydown', event => {
    const all = tabs(), at = all.indexOf(event.target), step = steps[event.key]
    if (at < 0 || !step) return
    const next = all[Number.isFinite(step) ? (at + step + all.length) % all.length : step > 0 ? all.length - 1 : 0]
    next.click()
    next.focus()
    event.preventDefault()
  })

  // Takes the server's HTML over part by part, so that focus, folds and the pointer's place stay and what changes moves
  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh)
    if (old.nodeType !== Node.ELEMENT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return }
    if (old.dataset?.key !== fresh.dataset?.key) return old.replaceWith(fresh)
    if (fresh.dataset?.runs && !old.dataset.runs) old.open = true  // a training is continued
    const theirs = name => name === 'open'  // what is folded is the reader's business
    for (const { name } of [...old.attributes]) if (!theirs(name) && !fresh.hasAttribute(name)) old.removeAttribute(name)
    for (const { name, value } of [...fresh.attributes]) if (!theirs(name) && old.getAttribute(name) !== value) old.setAttribute(name, value)
    const before = [...old.childNodes], after = [...fresh.childNodes]
    after.forEach((node, i) => { before[i] ? morph(before[i], node) : old.append(node) })
    before.slice(after.length).forEach(node => node.remove())
  }

  // the address of a run, a sentence and the settings; with the tab, the language and the theme where they were chosen, and
  // the sentences pinned to a training. Cut, since servers take no longer line
  const LONGEST = 2000
  const link = (run, text, gate, sharpness, temperature, fusion) => {
    const params = new URLSearchParams({ run, text: text.slice(0, LONGEST), gate, sharpness, temperature, fusion })
    const pins = document.querySelector('#pins textarea')?.value ?? asked.get('pins')
    if (pins) params.set('pins', pins.slice(0, LONGEST))
    for (const name of ['tab', 'lang', '__theme']) {
      const value = new URLSearchParams(location.search).get(name)
      if (value) params.set(name, value)
    }
    write(params)
    return location.href
  }
  // The flow as a PNG of 1240 pixels' layout, on the clipboard or, where that is refused, as a file
  const picture = async title => {
    const flow = document.querySelector('#panel .flow')
    if (!flow) return
    const sheets = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]).map(rule => rule.cssText)
    const html = document.createElement('div'), style = document.createElement('style'), head = document.createElement('p'), drawn = flow.cloneNode(true)
    style.textContent = sheets.filter(text => /^(:root|\.dark|\.monju|\.flow)/.test(text)).join('')
    head.textContent = flow.querySelector('.said').textContent
    head.style.cssText = 'font-size: 24px; font-weight: 600; margin: 0 0 16px'
    drawn.querySelector('.arithmetic').textContent = title
    html.className = `monju ${document.body.className}`
    html.style.cssText = 'width: 1192px; height: 100%; padding: 20px 24px; background: var(--ground); color: var(--ink); font-family: system-ui, sans-serif; line-height: 1.5'
    html.append(style, head, drawn)
    const narrow = flow.getClientRects().length === 0
    const width = 1240, height = narrow ? 130 + 95 * Math.max(3, flow.querySelectorAll('.voice').length) : flow.offsetHeight + 90
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><foreignObject width="100%" height="100%">${new XMLSerializer().serializeToString(html)}</foreignObject></svg>`
    const image = new Image(), canvas = Object.assign(document.createElement('canvas'), { width: 2 * width, height: 2 * height })
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`
    await image.decode()
    canvas.getContext('2d').drawImage(image, 0, 0, 2 * width, 2 * height)
    const png = await new Promise(done => canvas.toBlob(done))
    try {
      await navigator.clipboard.write([new ClipboardItem({ 'image/png': png })])
      return 'copied'
    } catch {
      const file = Object.assign(document.createElement('a'), { href: URL.createObjectURL(png), download: 'monju.png' })
      file.click()
      URL.revokeObjectURL(file.href)
      return 'saved'
    }
  }

  return {
    link,
    morph,
    picture,
    copy: (...values) => { navigator.clipboard?.writeText(link(...values)).catch(() => {}); return values },
    speak: (...values) => {
      const other = language === 'ja' ? 'en' : 'ja', address = new URL(link(...values))
      keep('lang', other)
      address.searchParams.set('lang', other)
      location.replace(address)
    },
    turn: () => {
      const now = document.body.classList.toggle('dark') ? 'dark' : 'light', params = new URLSearchParams(location.search)
      keep('theme', now)
      params.set('__theme', now)
      write(params)
    },
  }
})()
