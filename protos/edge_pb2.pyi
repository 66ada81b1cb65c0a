from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    FLOAT32: _ClassVar[DType]
    FLOAT64: _ClassVar[DType]
    FLOAT16: _ClassVar[DType]
    BFLOAT16: _ClassVar[DType]
    INT8: _ClassVar[DType]
DTYPE_UNSPECIFIED: DType
FLOAT32: DType
FLOAT64: DType
FLOAT16: DType
BFLOAT16: DType
INT8: DType

class Frame(_message.Message):
    __slots__ = ("parcels",)
    PARCELS_FIELD_NUMBER: _ClassVar[int]
    parcels: _containers.RepeatedCompositeFieldContainer[Parcel]
    def __init__(self, parcels: _Optional[_Iterable[_Union[Parcel, _Mapping]]] = ...) -> None: ...

class Parcel(_message.Message):
    __slots__ = ("seat", "message")
    SEAT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    seat: int
    message: bytes
    def __init__(self, seat: _Optional[int] = ..., message: _Optional[bytes] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data", "scale", "indices")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    scale: float
    indices: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ..., scale: _Optional[float] = ..., indices: _Optional[bytes] = ...) -> None: ...

class Coding(_message.Message):
    __slots__ = ("dtype", "kept")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    kept: int
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., kept: _Optional[int] = ...) -> None: ...

class Codings(_message.Message):
    __slots__ = ("features", "outputs", "feedback", "acknowledgement")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    features: Coding
    outputs: Coding
    feedback: Coding
    acknowledgement: Coding
    def __init__(self, features: _Optional[_Union[Coding, _Mapping]] = ..., outputs: _Optional[_Union[Coding, _Mapping]] = ..., feedback: _Optional[_Union[Coding, _Mapping]] = ..., acknowledgement: _Optional[_Union[Coding, _Mapping]] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("round", "slot")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    round: int
    slot: int
    def __init__(self, round: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class Next(_message.Message):
    __slots__ = ("ask", "key", "back_to")
    class Ask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ASK_UNSPECIFIED: _ClassVar[Next.Ask]
        FEATURES: _ClassVar[Next.Ask]
        VALIDATION: _ClassVar[Next.Ask]
        WAIT: _ClassVar[Next.Ask]
        LEAVE: _ClassVar[Next.Ask]
    ASK_UNSPECIFIED: Next.Ask
    FEATURES: Next.Ask
    VALIDATION: Next.Ask
    WAIT: Next.Ask
    LEAVE: Next.Ask
    ASK_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BACK_TO_FIELD_NUMBER: _ClassVar[int]
    ask: Next.Ask
    key: Key
    back_to: Key
    def __init__(self, ask: _Optional[_Union[Next.Ask, str]] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., back_to: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class UserMessage(_message.Message):
    __slots__ = ("join", "features", "feedback", "report", "leave", "ahead")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    join: Join
    features: Features
    feedback: Feedback
    report: Report
    leave: Leave
    ahead: Features
    def __init__(self, join: _Optional[_Union[Join, _Mapping]] = ..., features: _Optional[_Union[Features, _Mapping]] = ..., feedback: _Optional[_Union[Feedback, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., ahead: _Optional[_Union[Features, _Mapping]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("protocol", "run", "user", "incarnation", "dtype", "feature_shape", "batch", "validation_batch", "wants_feature_gradient", "sends_ahead", "codings", "heard", "process", "begins")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_BATCH_FIELD_NUMBER: _ClassVar[int]
    WANTS_FEATURE_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    SENDS_AHEAD_FIELD_NUMBER: _ClassVar[int]
    CODINGS_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    run: str
    user: str
    incarnation: int
    dtype: DType
    feature_shape: _containers.RepeatedScalarFieldContainer[int]
    batch: int
    validation_batch: int
    wants_feature_gradient: bool
    sends_ahead: bool
    codings: Codings
    heard: int
    process: int
    begins: Key
    def __init__(self, protocol: _Optional[int] = ..., run: _Optional[str] = ..., user: _Optional[str] = ..., incarnation: _Optional[int] = ..., dtype: _Optional[_Union[DType, str]] = ..., feature_shape: _Optional[_Iterable[int]] = ..., batch: _Optional[int] = ..., validation_batch: _Optional[int] = ..., wants_feature_gradient: _Optional[bool] = ..., sends_ahead: _Optional[bool] = ..., codings: _Optional[_Union[Codings, _Mapping]] = ..., heard: _Optional[int] = ..., process: _Optional[int] = ..., begins: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("key", "features")
    KEY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    key: Key
    features: Tensor
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., features: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("key", "loss", "gradient")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    loss: float
    gradient: Tensor
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., loss: _Optional[float] = ..., gradient: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("key", "loss", "accuracy")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    key: Key
    loss: float
    accuracy: float
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., loss: _Optional[float] = ..., accuracy: _Optional[float] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("parameters_sha256",)
    PARAMETERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    parameters_sha256: bytes
    def __init__(self, parameters_sha256: _Optional[bytes] = ...) -> None: ...

class EdgeMessage(_message.Message):
    __slots__ = ("welcome", "outputs", "acknowledgement", "rejected", "round_end", "goodbye", "asked", "resumed", "following")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    ROUND_END_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    outputs: Outputs
    acknowledgement: Acknowledgement
    rejected: Rejected
    round_end: RoundEnd
    goodbye: Goodbye
    asked: Next
    resumed: Resumed
    following: Outputs
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., outputs: _Optional[_Union[Outputs, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., round_end: _Optional[_Union[RoundEnd, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., asked: _Optional[_Union[Next, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., following: _Optional[_Union[Outputs, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "rounds", "slots", "output_shape", "next", "remember")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    REMEMBER_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    rounds: int
    slots: int
    output_shape: _containers.RepeatedScalarFieldContainer[int]
    next: Next
    remember: _containers.RepeatedCompositeFieldContainer[Key]
    def __init__(self, protocol: _Optional[int] = ..., rounds: _Optional[int] = ..., slots: _Optional[int] = ..., output_shape: _Optional[_Iterable[int]] = ..., next: _Optional[_Union[Next, _Mapping]] = ..., remember: _Optional[_Iterable[_Union[Key, _Mapping]]] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("taken", "before")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    taken: int
    before: int
    def __init__(self, taken: _Optional[int] = ..., before: _Optional[int] = ...) -> None: ...

class Outputs(_message.Message):
    __slots__ = ("key", "outputs")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    key: Key
    outputs: Tensor
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., outputs: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("key", "feature_gradient", "next")
    KEY_FIELD_NUMBER: _ClassVar[int]
    FEATURE_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    feature_gradient: Tensor
    next: Next
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., feature_gradient: _Optional[_Union[Tensor, _Mapping]] = ..., next: _Optional[_Union[Next, _Mapping]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("key", "code", "field", "reason", "next")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CODE_UNSPECIFIED: _ClassVar[Rejected.Code]
        INVALID: _ClassVar[Rejected.Code]
        NOT_FINITE: _ClassVar[Rejected.Code]
        LATE: _ClassVar[Rejected.Code]
    CODE_UNSPECIFIED: Rejected.Code
    INVALID: Rejected.Code
    NOT_FINITE: Rejected.Code
    LATE: Rejected.Code
    KEY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    code: Rejected.Code
    field: str
    reason: str
    next: Next
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., code: _Optional[_Union[Rejected.Code, str]] = ..., field: _Optional[str] = ..., reason: _Optional[str] = ..., next: _Optional[_Union[Next, _Mapping]] = ...) -> None: ...

class RoundEnd(_message.Message):
    __slots__ = ("round", "next")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    round: int
    next: Next
    def __init__(self, round: _Optional[int] = ..., next: _Optional[_Union[Next, _Mapping]] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
