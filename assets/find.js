// Shows the settings whose names or help hold every word that is typed, in either language. WORDS is {setting: its words},
// SAY what is said, in English and Japanese.
const box = element.querySelector('input'), told = element.querySelector('.find-told')
const say = name => SAY[name][document.documentElement.lang === 'ja' ? 1 : 0]
element.querySelector('.find-name').textContent = say('label')
box.placeholder = say('hint')

box.addEventListener('input', () => {
  const asked = box.value.toLowerCase().normalize('NFKC').split(/\s+/).filter(Boolean)
  let found = 0
  for (const [name, words] of Object.entries(WORDS)) {
    const hit = asked.every(word => words.normalize('NFKC').includes(word))
    found += hit
    document.getElementById(`field-${name}`)?.classList.toggle('not-found', !hit)
  }
  for (const group of document.querySelectorAll('#advanced .settings-group'))
    group.classList.toggle('not-found', !group.querySelector('.field:not(.not-found)'))
  told.textContent = !asked.length ? '' : found ? say('found').replace('{n}', found) : say('none')
})
