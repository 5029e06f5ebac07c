/// Finds the name that was probably meant.
enum Spelling {
  /// The nearest candidate within a third of the name's length (at least one edit), case differences free.
  static func nearest(to name: String, among candidates: [String]) -> String? {
    let written = Array(name.lowercased().utf8)
    guard written.count <= 64 else { return nil }
    var best: (distance: Int, candidate: String)?
    for candidate in candidates.sorted() {
      let distance = distance(written, Array(candidate.lowercased().utf8))
      if distance < best?.distance ?? .max { best = (distance, candidate) }
    }
    guard let best, best.distance <= max(1, written.count / 3) else { return nil }
    return best.candidate
  }

  /// Levenshtein distance.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    guard b.count <= 128 else { return .max }
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, right) in b.enumerated() {
        let substituted = diagonal + (left == right ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}
