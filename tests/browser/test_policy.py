"""Under the content-security policy every page works: the browser reports no violation, on any of them."""

from playwright.sync_api import expect

from app.shell.navigation import PAGES, ROOT_PAGE


def test_no_page_breaks_the_policy(tab, server):
    broken = []
    tab.on(
        "console", lambda message: broken.append(message.text) if "Content Security Policy" in message.text else None
    )
    tab.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => console.error('Content Security Policy',"
        " e.blockedURI, e.sourceFile))"
    )
    tab.goto(server)
    for name, page in PAGES.items():
        tab.get_by_role("link", name=page.title, exact=True).click()
        tab.wait_for_url(f"**{'/' if name == ROOT_PAGE else f'/{name}'}?*")
        expect(tab.get_by_test_id("stStatusWidget")).to_have_count(0)
        tab.wait_for_load_state("networkidle")
    assert broken == [] and tab.foreign == []


def test_the_policy_stops_what_it_is_for(tab, server):
    """An image of elsewhere and an inline script, put into the page by hand, are neither loaded nor run."""
    tab.goto(server)
    ran = tab.evaluate("""() => new Promise(done => {
            const script = document.createElement('script'); script.textContent = 'window.ran = true'; document.body.append(script);
            const image = new Image();
            image.onerror = () => done([!!window.ran, 'refused']);
            image.onload = () => done([!!window.ran, 'loaded']);
            image.src = 'http://tracker.invalid/p.png';
        })""")  # noqa: E501
    assert ran == [False, "refused"]
