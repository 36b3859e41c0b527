"""fdroute for Conan 2: conan create reference/package/conan"""

import os
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load


class Fdroute(ConanFile):
    name = "fdroute"
    description = "Statistical routing policies for Mixture-of-Experts"
    license = "MIT"
    settings = "os", "compiler", "build_type", "arch"
    options = {"c_api": [True, False]}
    default_options = {"c_api": False}

    @property
    def _root(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._root, "include", "fdroute", "version.hpp"))
        self.version = ".".join(re.findall(r"FDROUTE_VERSION_[A-Z]+ (\d+)", header))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md", "include/*", "docs/*", "reference/*"):
            copy(self, pattern, self._root, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires("xsimd/[>=8.1 <15]", transitive_headers=True)
        if self.options.c_api:
            self.requires("nlohmann_json/[>=3.11 <4]", visible=False)

    def package_id(self):
        if not self.info.options.c_api:
            self.info.clear()

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["FDROUTE_BUILD_C_API"] = bool(self.options.c_api)
        toolchain.cache_variables["FDROUTE_BUILD_REFERENCE"] = False
        toolchain.cache_variables["FDROUTE_BUILD_TESTS"] = False
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "both")
        self.cpp_info.components["headers"].set_property("cmake_target_name", "fdroute::fdroute")
        self.cpp_info.components["headers"].set_property("pkg_config_name", "fdroute")
        self.cpp_info.components["headers"].requires = ["xsimd::xsimd"]
        if self.options.c_api:
            self.cpp_info.components["c"].libs = ["fdroute_c"]
            self.cpp_info.components["c"].set_property("cmake_target_name", "fdroute::fdroute_c")
            self.cpp_info.components["c"].set_property("pkg_config_name", "fdroute-c")
            self.cpp_info.components["c"].requires = ["nlohmann_json::nlohmann_json"]
