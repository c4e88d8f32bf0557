from fsclip_jax.data.source import UnreadableImage


def test_an_unreadable_image_names_its_key_and_is_an_os_error():
    error = UnreadableImage("cat/1.jpg", "the file is empty")
    assert isinstance(error, OSError)
    assert (error.key, error.reason) == ("cat/1.jpg", "the file is empty")
    assert str(error) == "cat/1.jpg: the file is empty"
