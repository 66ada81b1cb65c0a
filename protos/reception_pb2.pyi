from protos import edge_pb2 as _edge_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromUsers(_message.Message):
    __slots__ = ("introduction", "kept")
    INTRODUCTION_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    introduction: Introduction
    kept: Kept
    def __init__(self, introduction: _Optional[_Union[Introduction, _Mapping]] = ..., kept: _Optional[_Union[Kept, _Mapping]] = ...) -> None: ...

class Introduction(_message.Message):
    __slots__ = ("protocol", "scenario", "guests", "run", "places", "keeps", "process")
    class ScenarioEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    KEEPS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    scenario: _containers.ScalarMap[str, str]
    guests: _containers.RepeatedCompositeFieldContainer[Guest]
    run: str
    places: _containers.RepeatedCompositeFieldContainer[_edge_pb2.Key]
    keeps: bool
    process: str
    def __init__(self, protocol: _Optional[int] = ..., scenario: _Optional[_Mapping[str, str]] = ..., guests: _Optional[_Iterable[_Union[Guest, _Mapping]]] = ..., run: _Optional[str] = ..., places: _Optional[_Iterable[_Union[_edge_pb2.Key, _Mapping]]] = ..., keeps: _Optional[bool] = ..., process: _Optional[str] = ...) -> None: ...

class Guest(_message.Message):
    __slots__ = ("user", "dtype", "feature_shape", "batch", "validation_batch")
    USER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_BATCH_FIELD_NUMBER: _ClassVar[int]
    user: str
    dtype: _edge_pb2.DType
    feature_shape: _containers.RepeatedScalarFieldContainer[int]
    batch: int
    validation_batch: int
    def __init__(self, user: _Optional[str] = ..., dtype: _Optional[_Union[_edge_pb2.DType, str]] = ..., feature_shape: _Optional[_Iterable[int]] = ..., batch: _Optional[int] = ..., validation_batch: _Optional[int] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("at", "failure")
    AT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    at: _edge_pb2.Key
    failure: str
    def __init__(self, at: _Optional[_Union[_edge_pb2.Key, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class FromEdge(_message.Message):
    __slots__ = ("waiting", "again", "terms", "keep")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    waiting: Waiting
    again: Again
    terms: Terms
    keep: Keep
    def __init__(self, waiting: _Optional[_Union[Waiting, _Mapping]] = ..., again: _Optional[_Union[Again, _Mapping]] = ..., terms: _Optional[_Union[Terms, _Mapping]] = ..., keep: _Optional[_Union[Keep, _Mapping]] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("whom",)
    WHOM_FIELD_NUMBER: _ClassVar[int]
    whom: str
    def __init__(self, whom: _Optional[str] = ...) -> None: ...

class Again(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Terms(_message.Message):
    __slots__ = ("run", "output_shape", "first", "attempt", "process")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    run: str
    output_shape: _containers.RepeatedScalarFieldContainer[int]
    first: _edge_pb2.Key
    attempt: str
    process: int
    def __init__(self, run: _Optional[str] = ..., output_shape: _Optional[_Iterable[int]] = ..., first: _Optional[_Union[_edge_pb2.Key, _Mapping]] = ..., attempt: _Optional[str] = ..., process: _Optional[int] = ...) -> None: ...

class Keep(_message.Message):
    __slots__ = ("at",)
    AT_FIELD_NUMBER: _ClassVar[int]
    at: _edge_pb2.Key
    def __init__(self, at: _Optional[_Union[_edge_pb2.Key, _Mapping]] = ...) -> None: ...
