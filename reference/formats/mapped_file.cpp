#include "formats/mapped_file.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include "formats/error.hpp"
#include "formats/regular_file.hpp"

namespace olmoe {

class MappedFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  std::span<const std::byte> bytes() const { return bytes_; }

  void check_unchanged() const {
    if (!is_unchanged(path_, status_))
      throw Error(path_.string() + ": was changed or replaced while it was in use");
  }

  static void on_bus_error(int signal, siginfo_t* info, void*);

 private:
  /// All mappings, for a signal handler to look through. Those for which there is no place are not
  /// reported.
  static std::array<std::atomic<const Mapping*>, 1024> all;

  std::filesystem::path path_;
  struct stat status_;
  std::span<const std::byte> bytes_;
  std::string report_;  // a line for the signal handler, which cannot make one
  std::atomic<const Mapping*>* place_ = nullptr;
};

std::array<std::atomic<const MappedFile::Mapping*>, 1024> MappedFile::Mapping::all{};

MappedFile::Mapping::Mapping(const std::filesystem::path& path) : path_(path), status_{} {
  const RegularFile file(path);
  status_ = file.status();
  if (file.size() == 0) return;  // which mmap refuses

  const auto size = static_cast<std::size_t>(file.size());
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (address == MAP_FAILED)
    throw Error(path.string() + ": " + std::generic_category().message(errno));
    // Where kernel and file system can (Linux 6.16 with ext4, for one), pages read from now on are
    // of 2 MiB: read from disk faster, and in fewer pages to find. A hint, so whatever comes of it.
#ifdef MADV_HUGEPAGE
  ::madvise(address, size, MADV_HUGEPAGE);
#endif
  bytes_ = {static_cast<const std::byte*>(address), size};

  const std::string_view text(static_cast<const char*>(address), size);
  if (size < 1024 && text.starts_with("version https://git-lfs.github.com/spec/")) {
    ::munmap(address, size);
    throw Error(
        path.string() +
        ": is a git-lfs pointer, not the file itself: run `git lfs pull` where it came from");
  }
  report_ =
      std::string("olmoe: ") + Error(path.string() + ": was truncated while in use").what() + "\n";
  for (std::atomic<const Mapping*>& place : all) {
    const Mapping* none = nullptr;
    if (!place.compare_exchange_strong(none, this)) continue;
    place_ = &place;
    break;
  }
}

MappedFile::Mapping::~Mapping() {
  if (place_ != nullptr) place_->store(nullptr);
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::Mapping::on_bus_error(int signal, siginfo_t* info, void*) {
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  for (const std::atomic<const Mapping*>& place : all) {
    const Mapping* mapping = place.load();
    if (mapping == nullptr || at < mapping->bytes_.data() ||
        at >= mapping->bytes_.data() + mapping->bytes_.size())
      continue;
    const std::string& line = mapping->report_;
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    ::_exit(1);
  }
  ::signal(signal, SIG_DFL);  // none of ours: the access is repeated, and ends the process
}

MappedFile::MappedFile(const std::filesystem::path& path)
    : mapping_(std::make_unique<const Mapping>(path)) {}
MappedFile::MappedFile(MappedFile&&) noexcept = default;
MappedFile& MappedFile::operator=(MappedFile&&) noexcept = default;
MappedFile::~MappedFile() = default;

std::span<const std::byte> MappedFile::bytes() const {
  return mapping_->bytes();
}

void MappedFile::check_unchanged() const {
  mapping_->check_unchanged();
}

void report_truncated_files() {
  struct sigaction action {};
  action.sa_sigaction = MappedFile::Mapping::on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace olmoe
