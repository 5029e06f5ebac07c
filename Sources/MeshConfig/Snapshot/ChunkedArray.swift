/// An array whose copies share their parts: to change one element of a copy costs one chunk and the list of chunks,
/// so that a new snapshot of ten thousand endpoints shares all but a few of them with the one before.
public struct ChunkedArray<Element: Sendable>: RandomAccessCollection, Sendable {
  @usableFromInline static var shift: Int { 6 }
  @usableFromInline static var mask: Int { 63 }
  @usableFromInline var chunks: [[Element]] = []
  @usableFromInline var total = 0

  public init() {}
  public init(_ elements: some Sequence<Element>) { for element in elements { append(element) } }

  @inlinable public var startIndex: Int { 0 }
  @inlinable public var endIndex: Int { total }
  @inlinable public subscript(_ index: Int) -> Element { chunks[index >> Self.shift][index & Self.mask] }

  /// Puts another element in the place of an existing one.
  public mutating func replace(at index: Int, with element: Element) {
    chunks[index >> Self.shift][index & Self.mask] = element
  }

  public mutating func append(_ element: Element) {
    if total & Self.mask == 0 {
      var chunk: [Element] = []
      // A short array stays small; a long one allocates each chunk once.
      if total > 0 { chunk.reserveCapacity(Self.mask + 1) }
      chunks.append(chunk)
    }
    chunks[total >> Self.shift].append(element)
    total += 1
  }

  public mutating func removeLast() {
    guard total > 0 else { return }
    total -= 1
    chunks[total >> Self.shift].removeLast()
    if total & Self.mask == 0 { chunks.removeLast() }
  }
}

extension ChunkedArray where Element: AnyObject {
  /// An element whose reference is not counted: it is good while the array is.
  @inlinable @inline(__always) func borrowed(_ index: Int) -> Unmanaged<Element> {
    chunks[index >> Self.shift].withUnsafeBufferPointer { chunk in
      precondition(chunk.indices.contains(index & Self.mask), "an index of the array")
      // A reference and its unmanaged form are the same bits; only the latter is read without being counted.
      return UnsafeRawPointer(chunk.baseAddress.unsafelyUnwrapped + (index & Self.mask)).load(as: Unmanaged<Element>.self)
    }
  }
}
