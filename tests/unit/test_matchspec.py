"""What match specs of conda ask for."""

import pytest
from packaging.specifiers import SpecifierSet

from imagematrix.environments.matchspec import asks_for, differ, parse_match_spec


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Numpy", "numpy"),
        ("numpy=1.2", "numpy =1.2"),
        ("numpy =1.2.*", "numpy =1.2"),
        ("numpy==1.2.*", "numpy =1.2"),
        ("numpy 1.2.*", "numpy =1.2"),
        ("numpy 1.2", "numpy ==1.2"),
        ("numpy== 1.2", "numpy ==1.2"),
        ("numpy=1.2=py37_0", "numpy ==1.2 py37_0"),
        ("numpy 1.2 py37_0", "numpy ==1.2 py37_0"),
        ("numpy=1.2.*=py37*", "numpy =1.2 py37*"),
        ("numpy >= 1.2 , < 2", "numpy >=1.2,<2"),
        ("numpy>=1.2,<2|3.*", "numpy >=1.2,<2|=3"),
        ("numpy *", "numpy"),
        ("numpy=*=py37*", "numpy * py37*"),
        ("numpy>=1.2=*blas*", "numpy >=1.2 *blas*"),
        ("a::numpy=1.2", "a::numpy =1.2"),
        ("nvidia/label/cuda-11.8.0::cuda-nvcc", "nvidia/label/cuda-11.8.0::cuda-nvcc"),
        ("https://c.example/x/linux-64::numpy", "https://c.example/x/linux-64::numpy"),
        ("numpy[version='>=1,<2', build=py37*]", "numpy >=1,<2 py37*"),
        ('numpy[version="1.2", channel=a, md5=0a]', "a::numpy ==1.2"),
        ("_libgcc_mutex=0.1=conda_forge", "_libgcc_mutex ==0.1 conda_forge"),
        ("openssl=1.1.1k=h27cfd23_0", "openssl ==1.1.1k h27cfd23_0"),
        ("tzdata=2023c=h71feb2d_0 # of the export", "tzdata ==2023c h71feb2d_0"),
        (
            "https://c.example/linux-64/a-b-1.0-py_0.conda",
            "a-b ==1.0 py_0 https://c.example/linux-64/a-b-1.0-py_0.conda",
        ),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert str(parse_match_spec(text)) == normal


@pytest.mark.parametrize("text", ["", "=1.2", "a b c d", "-e .", "./a", "a=>1", "a[b", "a[b c]"])
def test_no_match_spec(text: str) -> None:
    with pytest.raises(ValueError, match=r" is no |write a>=1"):
        parse_match_spec(text)


def test_address_of_something_else() -> None:
    with pytest.raises(ValueError, match="is no address of a package of conda"):
        parse_match_spec("https://c.example/a.whl")


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        ("a=1.2", "1.2.3", True),
        ("a=1.2", "1.20", False),
        ("a==1.2", "1.2.3", False),
        ("a>=1,<2|3.*", "3.1", True),
        ("a>=1,<2|3.*", "2.5", False),
        ("a", "1", True),
        # Letters: only a solver knows.
        ("a=1.1k", "9", True),
    ],
)
def test_versions_that_it_asks_for(text: str, version: str, expected: bool) -> None:
    assert asks_for(parse_match_spec(text), [version]) is expected


@pytest.mark.parametrize(
    ("text", "specifier", "expected"),
    [
        ("a=1.2", "==1.2.5", False),
        ("a=1.2", "==1.3", True),
        ("a=1.2", ">=1.3", False),
        ("a==1.2", ">=1.3", True),
        ("a==1.2", "==1.2.0", False),
        ("a>=1.2", "==1.1", False),
        ("a", "==1.1", False),
        ("a=9d", "==1.1", False),
        ("a=1.2+cpu", "==1.3", False),
    ],
)
def test_pins_that_differ(text: str, specifier: str, expected: bool) -> None:
    assert differ(parse_match_spec(text), SpecifierSet(specifier)) is expected
