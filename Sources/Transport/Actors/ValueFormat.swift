/// The tags of the compact value encoding (docs/wire.md). A tag of 128 or more is a whole number from 0 to 127.
enum ValueTag {
  static let null: UInt8 = 0
  static let `false`: UInt8 = 1
  static let `true`: UInt8 = 2
  /// A varint.
  static let unsigned: UInt8 = 3
  /// A varint n that stands for −1 − n.
  static let negative: UInt8 = 4
  static let float: UInt8 = 5
  static let double: UInt8 = 6
  /// Varint length, UTF-8.
  static let string: UInt8 = 7
  /// Varint length, bytes.
  static let bytes: UInt8 = 8
  /// Values up to `end`.
  static let array: UInt8 = 9
  static let end: UInt8 = 10
  /// Keys, each followed by a value, up to key 0.
  static let map: UInt8 = 11
  static let smallNumber: UInt8 = 128

  /// Key references in a map: the end, a new key spelled out, or the n-th key spelled out before in this message plus two.
  static let keyEnd: UInt64 = 0
  static let keyNew: UInt64 = 1
  static let keyFirst: UInt64 = 2
}

/// Why a value could not be encoded or decoded.
enum ValueError: Error, Hashable, Sendable, CustomStringConvertible {
  case truncated
  case trailingBytes
  case malformed
  case unknownTag(UInt8)
  case invalidUTF8
  case tooDeep
  case tooManyValues
  case tooManyKeys
  case mismatch(expected: String)
  case missingKey(String)
  case endOfArray
  case numberOutOfRange
  case unsupported(String)

  var description: String {
    switch self {
    case .truncated: "the value ends early"
    case .trailingBytes: "bytes follow the last value"
    case .malformed: "a number or length is malformed"
    case .unknownTag(let tag): "value tag \(tag) does not exist"
    case .invalidUTF8: "a string is not UTF-8"
    case .tooDeep: "containers are nested deeper than \(CallLimits.depthMax)"
    case .tooManyValues: "more than \(CallLimits.valuesMax) values in one message"
    case .tooManyKeys: "more than \(CallLimits.keysMax) different keys in one message"
    case .mismatch(let expected): "expected \(expected)"
    case .missingKey(let key): "key '\(key)' is missing"
    case .endOfArray: "an array has fewer elements than expected"
    case .numberOutOfRange: "a number does not fit its type"
    case .unsupported(let what): "\(what) cannot be encoded"
    }
  }
}
