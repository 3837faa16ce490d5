"""What the server does with the body of a form: it hands it on."""


def test_a_form_is_read_by_django_alone(target):
    """Twisted would answer 400 to a form that it cannot read itself; Django misses the token against forgery."""
    headers = {"Content-Type": "multipart/form-data; boundary=line"}
    status, answered, _ = target.request("POST", "/login/", b"no part of a form", headers)
    assert status == 403
    assert answered["Content-Type"].startswith("text/html")
