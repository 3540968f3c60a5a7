"""What holds the parts apart: layers, one name per package, generated bindings, and a documented wire."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
Described = tuple[str, tuple[int, ...]]


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "kept, 0 broken." in result.stdout


def test_generated_bindings_are_fresh() -> None:
    command = [sys.executable, str(PROTO / "generate.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr


def test_proto_itself_is_no_package() -> None:
    # A package `proto` in the checkout would hide the one of that name which google-ads needs.
    assert not (PROTO / "__init__.py").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    """The descriptors of our .proto files, with their comments."""
    out = tmp_path_factory.mktemp("proto") / "descriptors"
    protos = [path.relative_to(PROTO).as_posix() for path in sorted(PROTO.rglob("*.proto"))]
    flags = [f"-I{PROTO}", f"--descriptor_set_out={out}", "--include_source_info"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *flags, *protos], check=True)
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def test_every_element_of_the_wire_has_a_comment(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    described = list(files)
    assert described
    for file in described:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        elements = list(_elements(file))
        assert elements
        assert [name for name, path in elements if not comments.get(path, "").strip()] == []


def test_every_enum_of_the_wire_begins_with_unspecified(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    enums = [enum for file in files for enum in file.enum_type]
    enums += [enum for file in files for message in file.message_type for enum in message.enum_type]

    assert all(enum.value[0].number == 0 for enum in enums)
    assert all(enum.value[0].name.endswith("_UNSPECIFIED") for enum in enums)


def _elements(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Described]:
    """The name and the path (see descriptor.proto, SourceCodeInfo) of everything in a file."""
    number = descriptor_pb2.FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
    for i, message in enumerate(file.message_type):
        yield from _message(message, (number, i))
    number = descriptor_pb2.FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER
    for i, enum in enumerate(file.enum_type):
        yield from _enum(enum, (number, i))
    number = descriptor_pb2.FileDescriptorProto.SERVICE_FIELD_NUMBER
    for i, service in enumerate(file.service):
        yield service.name, (number, i)
        for j, method in enumerate(service.method):
            yield method.name, (number, i, descriptor_pb2.ServiceDescriptorProto.METHOD_FIELD_NUMBER, j)


def _message(message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]) -> Iterator[Described]:
    kind = descriptor_pb2.DescriptorProto
    yield message.name, path
    for i, field in enumerate(message.field):
        yield f"{message.name}.{field.name}", (*path, kind.FIELD_FIELD_NUMBER, i)
    for i, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(nested, (*path, kind.NESTED_TYPE_FIELD_NUMBER, i))
    for i, enum in enumerate(message.enum_type):
        yield from _enum(enum, (*path, kind.ENUM_TYPE_FIELD_NUMBER, i))


def _enum(enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[Described]:
    yield enum.name, path
    for i, value in enumerate(enum.value):
        yield f"{enum.name}.{value.name}", (*path, descriptor_pb2.EnumDescriptorProto.VALUE_FIELD_NUMBER, i)
