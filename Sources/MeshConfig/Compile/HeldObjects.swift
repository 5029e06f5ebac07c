/// An object of the configuration with a number that changes whenever its content does.
final class HeldObject: Sendable {
  let stored: StoredObject
  let stamp: UInt64

  init(stored: StoredObject, stamp: UInt64) {
    self.stored = stored
    self.stamp = stamp
  }

  static func isOlder(_ a: HeldObject, _ b: HeldObject) -> Bool { StoredObject.isOlder(a.stored, b.stored) }
}

/// The objects of a configuration by kind.
struct HeldObjects: Sendable {
  private var byKind: [ObjectKind: [ObjectKey: HeldObject]] = [:]
  /// Oldest first, for kinds that nothing of has changed since they were asked for.
  private var byAge: [ObjectKind: [HeldObject]] = [:]
  private var lastStamp: UInt64 = 0

  var keys: [ObjectKey] { byKind.values.flatMap(\.keys) }
  var kinds: Set<ObjectKind> { Set(byKind.keys) }

  subscript(_ key: ObjectKey) -> HeldObject? { byKind[key.kind]?[key] }

  /// False when the object is held already, just so.
  mutating func put(_ object: StoredObject) -> Bool {
    let kind = object.key.kind
    if byKind[kind]?[object.key]?.stored == object { return false }
    lastStamp += 1
    byKind[kind, default: [:]][object.key] = HeldObject(stored: object, stamp: lastStamp)
    byAge[kind] = nil
    return true
  }

  /// False when there is no such object.
  mutating func remove(_ key: ObjectKey) -> Bool {
    guard byKind[key.kind]?.removeValue(forKey: key) != nil else { return false }
    if byKind[key.kind]?.isEmpty == true { byKind[key.kind] = nil }
    byAge[key.kind] = nil
    return true
  }

  /// Objects of one kind, oldest first.
  mutating func oldestFirst(_ kind: ObjectKind) -> [HeldObject] {
    if let known = byAge[kind] { return known }
    let sorted = (byKind[kind] ?? [:]).values.sorted(by: HeldObject.isOlder)
    byAge[kind] = sorted
    return sorted
  }

  /// Objects of several kinds, oldest first.
  mutating func oldestFirst(_ kinds: Set<ObjectKind>) -> [HeldObject] {
    var found: [HeldObject] = []
    for kind in kinds.sorted(by: { $0.rawValue < $1.rawValue }) { found += oldestFirst(kind) }
    return found.sorted(by: HeldObject.isOlder)
  }
}
